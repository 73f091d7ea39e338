/**
 * Groups: who may do what, who hears what, and that nobody sees a byte of before his join or behind his leave. Each test
 * ends with the same probe of everybody's view, live, by history and by sync.
 */
import assert from 'node:assert/strict'
import t from 'tap'
import { type Actor, type Json, type Stage, stage } from '../helper/stage.js'

type Ranges = readonly (readonly [from: number, to: number])[]

const seqsOf = (messages: Json[]): unknown[] => messages.map(({ seq }) => seq)
const expand = (ranges: Ranges): number[] => ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, at) => from + at))

/** What each of them can read of the group is exactly these seqs, by every way there is. */
async function sees(group: string, views: readonly (readonly [Actor, Ranges])[]): Promise<void> {
  for (const [actor, ranges] of views) {
    const wanted = expand(ranges)
    const conv = `g/${group}`
    if (wanted.length === 0) {
      await actor.callsInVain('history', { conv }, 'forbidden')
      for (const method of ['group.get', 'group.members']) await actor.callsInVain(method, { group }, 'forbidden')
      await actor.isRefused(conv, 'let me in', 'forbidden')
    } else {
      const { messages, head } = await actor.calls<{ messages: Json[]; head: number }>('history', { conv, limit: 200 })
      assert.deepEqual([seqsOf(messages), head], [wanted, wanted.at(-1)], `history of ${actor.name}`)
      const after = await actor.calls<{ messages: Json[] }>('history', { conv, after: 0, limit: 200 })
      assert.deepEqual(seqsOf(after.messages), wanted, `history of ${actor.name} from the beginning`)
    }
    const { messages, heads } = await actor.calls<{ messages: Json[]; heads: Json }>('sync', {})
    assert.deepEqual(seqsOf(messages.filter((each) => each.conv === conv)), wanted, `sync of ${actor.name}`)
    assert.equal(heads[conv], wanted.at(-1), `head of ${actor.name}`)
    const { conversations } = await actor.calls<{ conversations: Json[] }>('conversations', { fold: false })
    const row = conversations.find((each) => each.conv === conv)
    assert.equal(row?.head, wanted.at(-1))
    assert.equal((row?.last as Json | undefined)?.seq, wanted.at(-1), `last message that ${actor.name} may see`)
  }
}

const body = (event: string, fields: Json = {}): Json => ({ type: 'system', body: { event, ...fields } })

/** Takes the creation from everybody's inbox. */
async function createTeam(owner: Actor, others: Actor[], params: Json = {}): Promise<void> {
  const users = [owner, ...others].map(({ user }) => user)
  const { group } = await owner.calls('group.create', { group: 'team', name: 'The team', members: users.slice(1), ...params })
  assert.equal(group, 'team')
  for (const actor of [owner, ...others])
    await actor.receives({ topic: 'g/team/msg', seq: 1, from: owner.user, group: 'team', ...body('created', { name: 'The team', users }) })
}

const everybody = (actors: Actor[], expected: Json): Promise<unknown> => Promise.all(actors.map((actor) => actor.receives(expected)))
const silent = async (...actors: Actor[]): Promise<void> => {
  for (const actor of actors) await actor.receivesNothing()
}

t.test('create, talk, and the stored form', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'])
  const web = await s.actor('alice', { device: 'web' })
  await createTeam(alice, [bob, carol])
  await web.receives({ seq: 1 })
  const ack = await alice.sends('g/team', { id: 'c1', body: 'hi all' })
  t.match(ack, { id: 'c1', conv: 'g/team', seq: 2 })
  const stored = { seq: 2, ts: ack.ts, from: 'alice', group: 'team', id: 'c1', type: 'text', body: 'hi all' }
  for (const actor of [bob, carol, web]) t.strictSame(await actor.receives({ topic: 'g/team/msg', conv: 'g/team' }), stored)
  await bob.sends('g/team', 'hello')
  await everybody([alice, web, carol], { seq: 3, from: 'bob', body: 'hello' })
  t.match(await alice.calls('group.get', { group: 'team' }), {
    group: 'team',
    name: 'The team',
    owner: 'alice',
    members: 3,
    max_members: 500,
  })
  t.strictSame((await bob.calls<{ members: Json[] }>('group.members', { group: 'team' })).members.sort(byUser), [
    { user: 'alice', role: 'owner' },
    { user: 'bob', role: 'member' },
    { user: 'carol', role: 'member' },
  ])
  await sees('team', [
    [alice, [[1, 3]]],
    [bob, [[1, 3]]],
    [eve, []],
  ])
  await silent(alice, web, bob, carol, eve)
})

const byUser = (a: Json, b: Json): number => String(a.user).localeCompare(String(b.user))

t.test('what cannot be created', async (t) => {
  const s = await stage(t, { groupMembersMax: 500 })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const users = Array.from({ length: 501 }, (_, at) => `user${at}`)
  await s.admin('POST', '/users', { users })
  await alice.callsInVain('group.create', { group: 'big', members: users.slice(0, 500) }, 'invalid')
  await alice.calls('group.create', { group: 'full', members: users.slice(0, 499) })
  await alice.receives({ conv: 'g/full', seq: 1 })
  t.equal((await alice.calls('group.get', { group: 'full' })).members, 500)
  await alice.callsInVain('group.add', { group: 'full', users: ['bob'] }, 'invalid')
  t.strictSame(await alice.calls('group.add', { group: 'full', users: ['user1'] }), { added: [] }, 'members already')
  await alice.callsInVain('group.create', { group: 'full', members: [] }, 'conflict')
  await bob.callsInVain('group.create', { group: 'full' }, 'conflict')
  await alice.callsInVain('group.create', { group: 'ghosts', members: ['nobody'] }, 'not_found')
  await alice.callsInVain('group.create', { group: 'small', members: ['bob'], max_members: 1 }, 'invalid')
  for (const params of [
    { group: 'a b' },
    { group: '' },
    { group: 'x'.repeat(65) },
    { name: '' },
    { name: 'x'.repeat(129) },
    { members: 'bob' },
    { members: ['b b'] },
    { extra: 1 },
  ])
    await alice.callsInVain('group.create', params, 'invalid')
  const { group } = await alice.calls('group.create')
  t.match(group, /^[A-Za-z0-9_.~-]{1,64}$/, 'the server chooses the id')
  await alice.receives({ conv: `g/${group}`, seq: 1 })
  await alice.calls('group.create', { group: 'pair', members: ['bob', 'bob', 'alice'], max_members: 2 })
  t.equal((await alice.calls('group.get', { group: 'pair' })).members, 2)
  await alice.callsInVain('group.add', { group: 'pair', users: ['user1'] }, 'invalid')
  await bob.receives({ conv: 'g/pair', seq: 1 })
  await bob.receivesNothing()
})

t.test('a member who is added reads from the join on', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'])
  await createTeam(alice, [bob])
  await alice.sends('g/team', 'before')
  await bob.receives({ seq: 2 })
  t.strictSame(await alice.calls('group.add', { group: 'team', users: ['carol', 'bob', 'carol'] }), { added: ['carol'] })
  await everybody([alice, bob, carol], { seq: 3, from: 'alice', ...body('added', { users: ['carol'] }) })
  await carol.sends('g/team', 'here I am')
  await everybody([alice, bob], { seq: 4, from: 'carol' })
  for (const params of [{ before: 3 }, { before: 1 }, { before: 0 }])
    t.strictSame((await carol.calls('history', { conv: 'g/team', ...params })).messages, [])
  await carol.isRefused('g/team', { type: 'reaction', body: { seq: 2, emoji: 'x', on: true } }, 'not_found')
  await carol.sends('g/team', { type: 'reaction', body: { seq: 3, emoji: 'x', on: true } })
  await everybody([alice, bob], { seq: 5 })
  await sees('team', [
    [alice, [[1, 5]]],
    [bob, [[1, 5]]],
    [carol, [[3, 5]]],
    [eve, []],
  ])
  await silent(alice, bob, carol, eve)
})

t.test('a member who is removed hears nothing from the next seq on', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'], { clean: false })
  await createTeam(alice, [bob, carol])
  t.strictSame(await alice.calls('group.remove', { group: 'team', users: ['bob', 'eve', 'nobody'] }), { removed: ['bob'] })
  await everybody([alice, bob, carol], { seq: 2, ...body('removed', { users: ['bob'] }) })
  await alice.sends('g/team', 'without bob')
  await carol.receives({ seq: 3 })
  await bob.isRefused('g/team', 'still here?', 'forbidden')
  await bob.isDenied('g/team/read', '{"seq":3}', 'invalid')
  await bob.reads('g/team', 2)
  await silent(bob)
  await bob.leaves()
  await alice.sends('g/team', 'more')
  await carol.receives({ seq: 4 })
  await bob.returns()
  t.match(bob.ready, { replayed: 0 })
  t.strictSame(bob.ready.heads, {})
  await sees('team', [
    [alice, [[1, 4]]],
    [bob, [[1, 2]]],
    [carol, [[1, 4]]],
    [eve, []],
  ])
  await silent(alice, bob, carol, eve)
})

t.test('removed while offline, and back again', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'], { clean: false })
  await createTeam(alice, [bob, carol])
  await bob.leaves()
  await alice.sends('g/team', 'bob is away')
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
  await alice.sends('g/team', 'secret')
  await carol.sends('g/team', 'secret, too')
  await alice.calls('group.add', { group: 'team', users: ['bob'] })
  await alice.sends('g/team', 'bob is back')
  await bob.returns()
  t.match(bob.ready, { replayed: 4, heads: { 'g/team': 7 } })
  for (const seq of [2, 3, 6, 7]) await bob.receives({ conv: 'g/team', seq })
  await alice.receivesRun('g/team', 3, 1)
  await alice.receivesRun('g/team', 5, 2)
  await carol.receivesRun('g/team', 2, 3)
  await carol.receivesRun('g/team', 6, 2)
  await sees('team', [
    [alice, [[1, 7]]],
    [
      bob,
      [
        [1, 3],
        [6, 7],
      ],
    ],
    [carol, [[1, 7]]],
    [eve, []],
  ])
  const page = async (params: Json) => seqsOf((await bob.calls<{ messages: Json[] }>('history', { conv: 'g/team', ...params })).messages)
  t.strictSame(await page({ limit: 3 }), [3, 6, 7], 'a page goes over the gap')
  t.strictSame(await page({ before: 6, limit: 2 }), [2, 3])
  t.strictSame(await page({ before: 5 }), [1, 2, 3])
  t.strictSame(await page({ after: 3, limit: 1 }), [6])
  t.strictSame(await page({ after: 4 }), [6, 7])
  await bob.isRefused('g/team', { type: 'reaction', body: { seq: 4, emoji: 'x', on: true } }, 'not_found')
  await silent(alice, bob, carol, eve)
  await s.restart()
  for (const actor of [alice, bob, eve]) await actor.returns()
  await sees('team', [
    [alice, [[1, 7]]],
    [
      bob,
      [
        [1, 3],
        [6, 7],
      ],
    ],
    [eve, []],
  ])
  await silent(alice, bob, eve)
})

t.test('leaving, and what happens to an owner’s group', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'])
  await createTeam(alice, [bob, carol])
  await eve.callsInVain('group.leave', { group: 'team' }, 'forbidden')
  await bob.calls('group.leave', { group: 'team' })
  await everybody([alice, bob, carol], { seq: 2, from: 'bob', ...body('left', { users: ['bob'] }) })
  await bob.callsInVain('group.leave', { group: 'team' }, 'forbidden')
  await alice.calls('group.leave', { group: 'team' })
  await everybody([alice, carol], { seq: 3, from: 'alice', ...body('left', { users: ['alice'], owner: 'carol' }) })
  t.strictSame((await carol.calls('group.members', { group: 'team' })).members, [{ user: 'carol', role: 'owner' }])
  await carol.calls('group.add', { group: 'team', users: ['alice'] })
  await everybody([alice, carol], { seq: 4 })
  await alice.callsInVain('group.remove', { group: 'team', users: ['carol'] }, 'forbidden')
  await sees('team', [
    [alice, [[1, 4]]],
    [bob, [[1, 2]]],
    [carol, [[1, 4]]],
    [eve, []],
  ])
  await alice.calls('group.leave', { group: 'team' })
  await carol.receives({ seq: 5 })
  await carol.calls('group.leave', { group: 'team' })
  await carol.callsInVain('group.get', { group: 'team' }, 'forbidden')
  await carol.receives({ seq: 6 })
  await alice.receives({ seq: 5 })
  await sees('team', [
    [alice, [[1, 5]]],
    [bob, [[1, 2]]],
    [carol, [[1, 6]]],
    [eve, []],
  ])
  await silent(alice, bob, carol, eve)
})

t.test('roles: owner, admin, member', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, dave, eve] = await s.cast(['alice', 'bob', 'carol', 'dave', 'eve'])
  await createTeam(alice, [bob, carol, dave])
  const all = [alice, bob, carol, dave]
  const team = { group: 'team' }
  for (const [method, params] of [
    ['group.add', { users: ['eve'] }],
    ['group.remove', { users: ['dave'] }],
    ['group.update', { name: 'x' }],
    ['group.role', { user: 'bob', role: 'admin' }],
    ['group.dissolve', {}],
  ] as const)
    await carol.callsInVain(method, { ...team, ...params }, 'forbidden')
  await alice.calls('group.role', { ...team, user: 'bob', role: 'admin' })
  await everybody(all, { seq: 2, ...body('role', { user: 'bob', role: 'admin' }) })
  await alice.calls('group.role', { ...team, user: 'bob', role: 'admin' })
  await alice.callsInVain('group.role', { ...team, user: 'eve', role: 'admin' }, 'not_found')
  await alice.callsInVain('group.role', { ...team, user: 'alice', role: 'member' }, 'invalid')
  await alice.callsInVain('group.role', { ...team, user: 'bob', role: 'king' }, 'invalid')
  await bob.callsInVain('group.role', { ...team, user: 'carol', role: 'admin' }, 'forbidden')
  await bob.callsInVain('group.remove', { ...team, users: ['alice'] }, 'forbidden')
  await bob.callsInVain('group.remove', { ...team, users: ['dave', 'alice'] }, 'forbidden')
  await bob.callsInVain('group.remove', { ...team, users: ['bob'] }, 'invalid')
  await bob.callsInVain('group.dissolve', team, 'forbidden')
  await bob.calls('group.update', { ...team, name: 'New name', avatar_url: 'https://x.example/a' })
  await everybody(all, { seq: 3, ...body('updated', { name: 'New name', avatar_url: 'https://x.example/a' }) })
  t.match(await carol.calls('group.get', team), { name: 'New name', avatar_url: 'https://x.example/a' })
  await carol.sends('g/team', 'carol says')
  await everybody([alice, bob, dave], { seq: 4 })
  await dave.isRefused('g/team', { type: 'recall', body: { seq: 4 } }, 'forbidden')
  await bob.isRefused('g/team', { type: 'edit', body: { seq: 4, body: 'x' } }, 'forbidden')
  await bob.sends('g/team', { type: 'recall', body: { seq: 4 } })
  await everybody([alice, carol, dave], { seq: 5, type: 'recall' })
  await bob.calls('group.remove', { ...team, users: ['dave'] })
  await everybody(all, { seq: 6, from: 'bob', ...body('removed', { users: ['dave'] }) })
  await alice.calls('group.role', { ...team, user: 'carol', role: 'owner' })
  await everybody([alice, bob, carol], { seq: 7 })
  const { members } = await alice.calls<{ members: Json[] }>('group.members', team)
  t.strictSame(members.sort(byUser), [
    { user: 'alice', role: 'admin' },
    { user: 'bob', role: 'admin' },
    { user: 'carol', role: 'owner' },
  ])
  await alice.callsInVain('group.dissolve', team, 'forbidden')
  await alice.callsInVain('group.remove', { ...team, users: ['carol'] }, 'forbidden')
  await sees('team', [
    [alice, [[1, 7]]],
    [bob, [[1, 7]]],
    [carol, [[1, 7]]],
    [dave, [[1, 6]]],
    [eve, []],
  ])
  await silent(alice, bob, carol, dave, eve)
})

t.test('a dissolved group', async (t) => {
  const s = await stage(t)
  const [alice, bob, eve] = await s.cast(['alice', 'bob', 'eve'])
  await createTeam(alice, [bob])
  await alice.calls('group.dissolve', { group: 'team' })
  await everybody([alice, bob], { seq: 2, from: 'alice', ...body('dissolved') })
  for (const actor of [alice, bob, eve]) {
    await actor.isRefused('g/team', 'anybody?', 'not_found')
    await actor.callsInVain('group.add', { group: 'team', users: ['eve'] }, 'forbidden')
    await actor.callsInVain('group.dissolve', { group: 'team' }, 'forbidden')
    await actor.callsInVain('group.create', { group: 'team' }, 'conflict')
  }
  await sees('team', [
    [alice, [[1, 2]]],
    [bob, [[1, 2]]],
  ])
  await eve.callsInVain('history', { conv: 'g/team' }, 'forbidden')
  await silent(alice, bob, eve)
})

t.test('unknown groups, unknown users, bad params', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (const [method, params] of [
    ['add', { users: ['bob'] }],
    ['remove', { users: ['bob'] }],
    ['leave', {}],
    ['role', { user: 'bob', role: 'admin' }],
    ['update', { name: 'x' }],
    ['dissolve', {}],
    ['get', {}],
    ['members', {}],
  ] as const) {
    await alice.callsInVain(`group.${method}`, { group: 'nothing', ...params }, 'not_found')
    await alice.callsInVain(`group.${method}`, { ...params }, 'invalid')
    await alice.callsInVain(`group.${method}`, { group: 'a b', ...params }, 'invalid')
    await alice.callsInVain(`group.${method}`, { group: 'nothing', ...params, extra: 1 }, 'invalid')
  }
  await alice.calls('group.create', { group: 'team' })
  await alice.receives({ seq: 1 })
  await alice.callsInVain('group.add', { group: 'team', users: ['bob', 'nobody'] }, 'not_found')
  for (const users of [[], 'bob', [1], ['b b'], ['x'.repeat(65)]]) await alice.callsInVain('group.add', { group: 'team', users }, 'invalid')
  await silent(alice, bob)
  await sees('team', [
    [alice, [[1, 1]]],
    [bob, []],
  ])
})

t.test('membership changes come in order with messages, to the one who is added and removed as well', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  await createTeam(alice, [carol])
  const rounds = 15
  const sends: Promise<unknown>[] = []
  for (let round = 0; round < rounds; round++) {
    for (const method of ['group.add', 'group.remove']) {
      sends.push(alice.sends('g/team', `around ${round}`), carol.sends('g/team', `around ${round}`))
      await alice.calls(method, { group: 'team', users: ['bob'] })
    }
  }
  await Promise.all(sends)
  const { messages } = await alice.calls<{ messages: Json[] }>('history', { conv: 'g/team', after: 0, limit: 200 })
  const wanted: Json[] = []
  let isIn = false
  for (const message of messages) {
    const { event, users } = message.type === 'system' ? (message.body as { event: string; users: string[] }) : { event: '', users: [] }
    if (event === 'added' && users.includes('bob')) isIn = true
    if (isIn) wanted.push(message)
    if (event === 'removed' && users.includes('bob')) isIn = false
  }
  t.ok(wanted.length >= 2 * rounds, `bob saw ${wanted.length} of ${messages.length}`)
  for (const message of wanted) t.strictSame(await bob.receives({ conv: 'g/team', seq: message.seq }), message)
  for (const { seq, from, type } of messages.slice(1))
    if (from !== 'carol' || type === 'system') await carol.receives({ conv: 'g/team', seq })
  await silent(bob, carol)
})

t.test('by the admin API', async (t) => {
  const s: Stage = await stage(t)
  const [alice, bob, eve] = await s.cast(['alice', 'bob', 'eve'])
  t.match(await s.admin('POST', '/groups', { owner: 'alice', group: 'team', name: 'Ops', members: [] }), { group: 'team' })
  await alice.receives({ conv: 'g/team', seq: 1 })
  t.strictSame(await s.admin('POST', '/groups/team/members', { users: ['bob'] }), { added: ['bob'] })
  await everybody([alice, bob], { seq: 2, ...body('added', { users: ['bob'] }) })
  await bob.sends('g/team', 'thanks')
  await alice.receives({ seq: 3 })
  t.strictSame(await s.admin('DELETE', '/groups/team/members', { users: ['bob', 'eve'] }), { removed: ['bob'] })
  await everybody([alice, bob], { seq: 4, ...body('removed', { users: ['bob'] }) })
  await alice.sends('g/team', 'gone')
  await sees('team', [
    [alice, [[1, 5]]],
    [bob, [[2, 4]]],
    [eve, []],
  ])
  await silent(alice, bob, eve)
})
