/** Order in a group: muting, announcements, history for later members, `@all`, and what may be recalled and edited. */
import t from 'tap'
import { type Actor, type Json, type Stage, stage } from '../helper/stage.js'

async function team(s: Stage, params: Json = {}): Promise<Actor[]> {
  const cast = await s.cast(['alice', 'bob', 'carol'])
  await cast[0].calls('group.create', { group: 'team', members: ['bob', 'carol'], ...params })
  for (const actor of cast) await actor.receives({ conv: 'g/team', seq: 1 })
  return cast
}

const system = (event: string, fields: Json = {}): Json => ({ conv: 'g/team', type: 'system', body: { event, ...fields } })

t.test('a member is muted until a time, and everybody at once', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = (await team(s)) as [Actor, Actor, Actor]
  const { seq } = await bob.sends('g/team', 'spam')
  for (const actor of [alice, carol]) await actor.receives({ seq: 2 })
  const until = Date.now() + 3_600_000
  await bob.callsInVain('group.mute', { group: 'team', user: 'carol' }, 'forbidden')
  await alice.callsInVain('group.mute', { group: 'team', user: 'alice' }, 'forbidden')
  await alice.callsInVain('group.mute', { group: 'team', user: 'ghost' }, 'not_found')
  await alice.calls('group.mute', { group: 'team', user: 'bob', until })
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 3, ...system('muted', { user: 'bob', until }) })
  t.equal(await bob.isRefused('g/team', 'more spam', 'muted'), `you are muted in this group until ${new Date(until).toISOString()}`)
  await bob.isRefused('g/team', { type: 'reaction', body: { seq: 1, emoji: '+', on: true } }, 'muted')
  await bob.sends('g/team', { type: 'recall', body: { seq } })
  for (const actor of [alice, carol]) await actor.receives({ seq: 4, type: 'recall' })
  await s.restart()
  for (const actor of [alice, bob, carol]) await actor.connects()
  await bob.isRefused('g/team', 'still?', 'muted')
  t.match((await alice.calls<{ members: Json[] }>('group.members', { group: 'team' })).members[1], { user: 'bob', muted_until: until })
  await alice.calls('group.mute', { group: 'team', user: 'bob', until: 9e15 })
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 5, ...system('muted', { user: 'bob', until: 9e15 }) })
  t.equal(await bob.isRefused('g/team', 'and now?', 'muted'), 'you are muted in this group', 'later than any date')
  await alice.calls('group.mute', { group: 'team', user: 'bob', until: 0 })
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 6, ...system('unmuted', { user: 'bob' }) })
  await bob.sends('g/team', 'sorry')
  for (const actor of [alice, carol]) await actor.receives({ seq: 7 })
  await alice.calls('group.mute', { group: 'team' })
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 8, type: 'system' })
  for (const actor of [bob, carol]) await actor.isRefused('g/team', 'hm', 'muted')
  await alice.sends('g/team', 'the owner still speaks')
  for (const actor of [bob, carol]) await actor.receives({ seq: 9 })
  await alice.calls('group.role', { group: 'team', user: 'bob', role: 'admin' })
  await bob.sends('g/team', 'and admins')
  await alice.calls('group.mute', { group: 'team', until: Date.now() - 1 })
  await carol.sends('g/team', 'a time that is over mutes nobody')
})

t.test('an announcement, and members by pages', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = (await team(s)) as [Actor, Actor, Actor]
  await bob.callsInVain('group.update', { group: 'team', announcement: 'mine' }, 'forbidden')
  await alice.calls('group.update', { group: 'team', announcement: 'Lunch at noon', avatar_url: 'https://example.org/t.png' })
  const changes = { announcement: 'Lunch at noon', avatar_url: 'https://example.org/t.png' }
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 2, ...system('updated', changes) })
  t.match(await carol.calls('group.get', { group: 'team' }), { ...changes, history: 'join' })
  const first = await carol.calls('group.members', { group: 'team', limit: 2 })
  t.same(first, {
    members: [
      { user: 'alice', role: 'owner' },
      { user: 'bob', role: 'member' },
    ],
    next: 'bob',
  })
  t.same(await carol.calls('group.members', { group: 'team', limit: 2, cursor: 'bob' }), { members: [{ user: 'carol', role: 'member' }] })
})

t.test('a later member reads what the group lets him, and is not flooded with it', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = (await team(s, { history: 'all' })) as [Actor, Actor, Actor]
  const dave = await s.actor('dave', { clean: false })
  await alice.sends('g/team', 'before dave')
  await dave.leaves()
  await alice.calls('group.add', { group: 'team', users: ['dave'] })
  await alice.sends('g/team', 'after')
  await dave.returns()
  await dave.receives({ conv: 'g/team', seq: 3, type: 'system' })
  await dave.receives({ conv: 'g/team', seq: 4, body: 'after' })
  await dave.receivesNothing()
  const seqs = async (actor: Actor): Promise<unknown[]> =>
    (await actor.calls<{ messages: Json[] }>('history', { conv: 'g/team' })).messages.map(({ seq }) => seq)
  t.same(await seqs(dave), [1, 2, 3, 4])
  const { conversations } = await dave.calls<{ conversations: Json[] }>('conversations')
  t.match(conversations[0], { conv: 'g/team', head: 4, unread: 1 })
  await alice.calls('group.update', { group: 'team', history: 'join' })
  const eve = await s.actor('eve')
  await alice.calls('group.add', { group: 'team', users: ['eve'] })
  t.same(await seqs(eve), [6])
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
  await alice.sends('g/team', 'without bob')
  t.same(await seqs(bob), [1, 2, 3, 4, 5, 6, 7])
  await alice.calls('group.update', { group: 'team', history: 'all' })
  await alice.calls('group.add', { group: 'team', users: ['bob'] })
  t.same(await seqs(bob), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  t.same(await seqs(carol), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

t.test('@all is for owner and admins', async (t) => {
  const s = await stage(t)
  const [alice, bob] = (await team(s)) as [Actor, Actor]
  await bob.isRefused('g/team', { body: 'all of you', mentions: ['@all'] }, 'forbidden')
  await alice.sends('g/team', { body: 'all of you', mentions: ['@all', 'bob'] })
  await bob.receives({ seq: 2, mentions: ['@all', 'bob'] })
  await alice.isRefused('u/bob', { body: 'all of you', mentions: ['@all'] }, 'forbidden')
  await alice.isRefused('g/team', { body: 'x', mentions: ['@everybody'] }, 'invalid')
})

t.test('a recall is in time or an admin’s, an edit fits its type, and both speak of messages', async (t) => {
  const s = await stage(t, { recallMs: 0 })
  const [alice, bob] = (await team(s)) as [Actor, Actor]
  const { seq } = await bob.sends('g/team', 'oops')
  await s.clockMoves()
  await s.clockMoves()
  t.match(await bob.isRefused('g/team', { type: 'recall', body: { seq } }, 'forbidden'), /can be recalled for 0 ms/)
  await bob.isRefused('g/team', { type: 'edit', body: { seq, body: { url: 'x' } } }, 'invalid')
  await bob.sends('g/team', { type: 'edit', body: { seq, body: 'better' } })
  await alice.isRefused('g/team', { type: 'edit', body: { seq, body: 'no' } }, 'forbidden')
  await alice.isRefused('g/team', { type: 'recall', body: { seq: 1 } }, 'invalid')
  await alice.isRefused('g/team', { type: 'reaction', body: { seq: 3, emoji: '+', on: true } }, 'invalid')
  await alice.sends('g/team', { type: 'recall', body: { seq } })
})
