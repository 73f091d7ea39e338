/** Profiles, friends and blocks: who hears of what, who may write to whom, and that a block counts from its reply on. */
import assert from 'node:assert/strict'
import t from 'tap'
import { type Actor, type Json, stage } from '../helper/stage.js'

const friendsOf = async (actor: Actor): Promise<Record<string, unknown>> => {
  const { friends } = await actor.calls<{ friends: Json[] }>('friends.list')
  return Object.fromEntries(friends.map(({ user, state }) => [user, state]))
}

t.test('asking, accepting and ending a friendship', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('bob', { device: 'web' })
  t.same(await alice.calls('friends.add', { user: 'bob' }), { state: 'requested' })
  await alice.hears({ type: 'friend', user: 'bob', state: 'requested' })
  for (const device of [bob, web]) await device.hears({ type: 'friend', user: 'alice', state: 'received' })
  t.same(await friendsOf(alice), { bob: 'requested' })
  t.same(await friendsOf(bob), { alice: 'received' })
  t.same(await alice.calls('friends.add', { user: 'bob' }), { state: 'requested' }, 'asking again changes nothing')
  await alice.callsInVain('friends.accept', { user: 'bob' }, 'not_found')
  t.same(await bob.calls('friends.accept', { user: 'alice' }), { state: 'friend' })
  await alice.hears({ type: 'friend', user: 'bob', state: 'friend' })
  for (const device of [bob, web]) await device.hears({ type: 'friend', user: 'alice', state: 'friend' })
  await s.restart()
  for (const device of [alice, bob, web]) await device.connects()
  t.same(await friendsOf(alice), { bob: 'friend' })
  t.same(await bob.calls('friends.remove', { user: 'alice' }), { removed: true })
  await alice.hears({ type: 'friend', user: 'bob', state: 'none' })
  t.same(await friendsOf(alice), {})
  t.same(await friendsOf(bob), {})
  t.same(await alice.calls('friends.remove', { user: 'bob' }), { removed: false })
})

t.test('two who ask each other are friends', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await Promise.all([alice.calls('friends.add', { user: 'bob' }), bob.calls('friends.add', { user: 'alice' })])
  t.same([await friendsOf(alice), await friendsOf(bob)], [{ bob: 'friend' }, { alice: 'friend' }])
  for (const [params, code] of [
    [{ user: 'alice' }, 'invalid'],
    [{ user: 'ghost' }, 'not_found'],
    [{ user: 'a b' }, 'invalid'],
    [{}, 'invalid'],
  ] as const)
    await alice.callsInVain('friends.add', params, code)
})

t.test('a list by pages, over HTTP too', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const users = Array.from({ length: 7 }, (_, at) => `user${at}`)
  await s.admin('POST', '/users', { users })
  for (const user of users) await alice.calls('friends.add', { user })
  const seen: unknown[] = []
  for (let cursor: unknown, pages = 0; pages < 10; pages++) {
    const body: Json = cursor === undefined ? { limit: 3 } : { limit: 3, cursor }
    const answer = await s.http('POST', '/v1/rpc/friends.list', { token: await s.token('alice'), body })
    seen.push(...(answer.body.friends as Json[]).map(({ user }) => user))
    cursor = answer.body.next
    if (cursor === undefined) break
  }
  t.same(seen, users)
})

t.test('a block counts from its reply on, for sends under way too, and survives a restart', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await bob.sends('u/alice', 'hello')
  await alice.receives({ seq: 1 })
  await alice.calls('friends.add', { user: 'bob' })
  await alice.calls('blocks.add', { user: 'bob' })
  await alice.takes('the block', ({ body }) => body.type === 'block')
  t.match(await bob.isRefused('u/alice', 'are you there?', 'blocked'), /alice has blocked you/)
  await bob.callsInVain('friends.add', { user: 'alice' }, 'blocked')
  await alice.callsInVain('friends.add', { user: 'bob' }, 'conflict')
  t.same([await friendsOf(alice), await friendsOf(bob)], [{}, {}], 'the request is gone')
  await alice.sends('u/bob', 'I can still write to you')
  await bob.receives({ seq: 2, from: 'alice' })
  await s.restart()
  await alice.connects()
  await bob.connects()
  await bob.isRefused('u/alice', 'still?', 'blocked')
  t.match((await alice.calls<{ blocks: Json[] }>('blocks.list')).blocks, [{ user: 'bob' }])
  await alice.calls('blocks.remove', { user: 'bob' })
  const { seq } = await bob.sends('u/alice', 'thanks')
  t.equal(seq, 3, 'what was refused took no place in the log')
  await alice.receives({ seq: 3, body: 'thanks' })
})

t.test('blocking and writing at the same time: nothing is stored behind the reply to the block', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (let round = 0; round < 10; round++) {
    const flood = Array.from({ length: 20 }, (_, at) => bob.publishes('u/alice/msg', JSON.stringify({ id: `${round}-${at}`, body: 'x' })))
    await alice.calls('blocks.add', { user: 'bob' })
    const { head } = await alice.calls<{ head: number }>('history', { conv: 'u/bob', limit: 1 })
    await Promise.all(flood)
    await bob.isRefused('u/alice', 'x', 'blocked')
    assert.equal((await alice.calls<{ head: number }>('history', { conv: 'u/bob', limit: 1 })).head, head)
    await alice.calls('blocks.remove', { user: 'bob' })
  }
})

t.test('a block has no second meaning: in a group both are heard', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.receives({ conv: 'g/team', seq: 1 })
  await bob.receives({ conv: 'g/team', seq: 1 })
  await alice.calls('blocks.add', { user: 'bob' })
  await bob.sends('g/team', 'hi')
  await alice.receives({ conv: 'g/team', seq: 2, from: 'bob' })
  await alice.callsInVain('blocks.add', { user: 'alice' }, 'invalid')
  await alice.callsInVain('blocks.add', { user: 'ghost' }, 'not_found')
})

t.test('where strangers may not write, friends may', async (t) => {
  const s = await stage(t, { strangers: 'refuse' })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await bob.isRefused('u/alice', 'hello stranger', 'forbidden')
  await bob.sends('u/bob', 'a note to myself')
  await bob.calls('friends.add', { user: 'alice' })
  await bob.isRefused('u/alice', 'asking is not enough', 'forbidden')
  await alice.calls('friends.accept', { user: 'bob' })
  await bob.sends('u/alice', 'hello')
  await alice.receives({ seq: 1, from: 'bob' })
  await alice.sends('u/bob', 'hi')
  await alice.calls('friends.remove', { user: 'bob' })
  await bob.isRefused('u/alice', 'still there?', 'forbidden')
})

t.test('a profile is told to the own devices and to friends, and to nobody else', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  const web = await s.actor('alice', { device: 'web' })
  t.same(await alice.calls('profile.get'), { user: 'alice', status: 'available' })
  await alice.calls('friends.add', { user: 'bob' })
  await bob.calls('friends.accept', { user: 'alice' })
  for (const actor of [alice, web, bob])
    for (let n = 0; n < 2; n++) await actor.takes('a friend event', ({ body }) => body.type === 'friend')
  const profile = { user: 'alice', name: 'Alice', avatar_url: 'https://example.org/a.png', status: 'busy' }
  t.same(await alice.calls('profile.update', { name: 'Alice', avatar_url: 'https://example.org/a.png', status: 'busy' }), profile)
  for (const actor of [alice, web, bob]) await actor.hears({ type: 'profile', ...profile })
  t.same(await carol.calls('profile.get', { user: 'alice' }), profile)
  t.same(await alice.calls('profile.update', { avatar_url: '', status: 'available' }), {
    user: 'alice',
    name: 'Alice',
    status: 'available',
  })
  await alice.calls('blocks.add', { user: 'carol' })
  t.same(await carol.calls('profile.get', { user: 'alice' }), { user: 'alice', name: 'Alice' }, 'no status for whom she has blocked')
  await carol.receivesNothing()
  await carol.callsInVain('profile.get', { user: 'ghost' }, 'not_found')
  await carol.callsInVain('profile.update', { status: 'away' }, 'invalid')
  await carol.callsInVain('profile.update', { name: 'x'.repeat(129) }, 'invalid')
})
