/** One server of two processes' worth on MongoDB and Redis: which node somebody is on makes no difference to a conversation. */
import t, { type Test } from 'tap'
import { eventually } from '../helper/eventually.js'
import { newDatabase, startMongodb } from '../helper/mongodb.js'
import { newPrefix, startRedis, type TestRedis } from '../helper/redis.js'
import { type Json, type Stage, stage } from '../helper/stage.js'

const [mongodb, redis] = [await startMongodb(t), (await startRedis(t)) as TestRedis | undefined]
const skip = mongodb === undefined || redis === undefined

async function twoNodes(t: Test): Promise<[Stage, Stage]> {
  const shared = { mongodbUrl: newDatabase(mongodb as string), redisUrl: (redis as TestRedis).url, redisPrefix: newPrefix() }
  return [await stage(t, { ...shared, nodeId: 'a' }), await stage(t, { ...shared, nodeId: 'b' })]
}

t.test('people on two nodes write to each other, and to whoever has just come for the first time', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const alice = await a.actor('alice')
  for (let i = 0; i < 20; i++) {
    const friend = await b.actor(`friend-${i}`)
    t.equal((await alice.sends(`u/friend-${i}`, 'welcome')).seq, 1)
    await friend.receives({ from: 'alice', seq: 1, body: 'welcome' })
    t.equal((await friend.sends('u/alice', 'thank you')).seq, 2)
    await alice.receives({ from: `friend-${i}`, seq: 2, body: 'thank you' })
  }
})

t.test('a group over two nodes: who is added hears it from there on, who is removed nothing more', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob, carol] = [await a.actor('alice'), await b.actor('bob'), await b.actor('carol')]
  await alice.calls('group.create', { group: 'team', name: 'Team', members: ['bob'] })
  for (const actor of [alice, bob]) await actor.receives({ group: 'team', seq: 1 })
  await bob.sends('g/team', 'hello')
  await alice.receives({ from: 'bob', seq: 2 })
  await carol.isRefused('g/team', 'let me in', 'forbidden')
  await alice.calls('group.add', { group: 'team', users: ['carol'] })
  for (const actor of [alice, bob, carol]) await actor.receives({ group: 'team', seq: 3 })
  t.equal((await carol.sends('g/team', 'now I am in')).seq, 4)
  for (const actor of [alice, bob]) await actor.receives({ from: 'carol', seq: 4 })
  await bob.callsInVain('group.remove', { group: 'team', users: ['carol'] }, 'forbidden')
  await alice.calls('group.remove', { group: 'team', users: ['carol'] })
  for (const actor of [alice, bob, carol]) await actor.receives({ group: 'team', seq: 5 })
  await alice.sends('g/team', 'without her')
  await bob.receives({ from: 'alice', seq: 6 })
  await carol.isRefused('g/team', 'and I?', 'forbidden')
  await carol.receivesNothing()
})

t.test('both nodes write to one group at once: everybody gets every message, in one order', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob, carol] = [await a.actor('alice'), await b.actor('bob'), await b.actor('carol')]
  await alice.calls('group.create', { group: 'busy', name: 'Busy', members: ['bob', 'carol'] })
  for (const actor of [alice, bob, carol]) await actor.receives({ group: 'busy', seq: 1 })
  const acks = await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? alice : bob).sends('g/busy', `message ${i}`)))
  const seqs = acks.map(({ seq }) => seq).sort((x, y) => x - y)
  t.same(
    seqs,
    Array.from({ length: 40 }, (_, i) => i + 2),
  )
  await carol.receivesRun('g/busy', 2, 40)
})

t.test('one device, one session: the later connect wins, on whatever node', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const first = await a.actor('alice', { clean: false, device: 'phone' })
  const second = await b.actor('alice', { clean: false, device: 'phone' })
  await first.isClosed()
  t.ok(second.isConnected)
  const bob = await a.actor('bob')
  await bob.sends('u/alice', 'which one?')
  await second.receives({ from: 'bob', seq: 1 })
})

t.test('without Redis messages are stored, and reach the other node all the same', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  await alice.sends('u/bob', 'before')
  await bob.receives({ seq: 1 })
  await (redis as TestRedis).kill()
  await alice.sends('u/bob', 'meanwhile')
  await bob.receives({ seq: 2 })
  await (redis as TestRedis).start()
  await alice.sends('u/bob', 'after')
  await bob.receives({ seq: 3 })
})

t.test('a user is erased on one node: the other ends his sessions and takes nothing more to him', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob] = [await b.actor('alice'), await b.actor('bob')]
  const carol = await a.actor('carol')
  for (const peer of [bob, carol]) {
    await peer.sends('u/alice', 'hi')
    await alice.receives({ from: peer.user, seq: 1 })
  }
  await a.admin('DELETE', '/users/alice')
  await carol.isRefused('u/alice', 'are you there?', 'not_found')
  await alice.isClosed()
  // Far sooner than what was judged before is judged anew by itself.
  await bob.isRefused('u/alice', 'are you there?', 'not_found')
  await a.erases('alice')
  t.match(await b.admin('DELETE', '/users/alice'), { done: true })
})

t.test('the sessions of a user are ended from another node, stored or not', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const kept = await b.actor('alice', { device: 'phone', clean: false })
  const passing = await b.actor('alice', { device: 'web' })
  const here = await a.actor('alice', { device: 'tablet' })
  const bob = await b.actor('bob')
  await a.admin('DELETE', '/users/alice/sessions')
  for (const actor of [kept, passing, here]) await actor.isClosed()
  t.ok(bob.isConnected)
  await kept.returns()
  t.notOk(kept.sessionPresent, 'it was forgotten, too')
})

t.test('receipts, read positions and typing cross from node to node, as messages do', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  const bobsWeb = await a.actor('bob', { device: 'web' })
  await alice.sends('u/bob', 'hi')
  for (const device of [bob, bobsWeb]) await device.receives({ from: 'alice', seq: 1 })
  await alice.hears({ type: 'receipt', conv: 'u/bob', user: 'bob', delivered: 1, read: 0 })
  await bob.reads('u/alice', 1)
  await bobsWeb.hears({ type: 'read', conv: 'u/alice', seq: 1 })
  await alice.hears({ type: 'receipt', conv: 'u/bob', user: 'bob', delivered: 1, read: 1 })
  for (const node of [a, b]) {
    const { body } = await node.http('POST', '/v1/rpc/conversations', { token: await node.token('alice'), body: {} })
    t.match(body, { conversations: [{ conv: 'u/bob', head: 1, unread: 0, delivered: 1, read: 1 }] })
  }
  await bob.publishes('u/alice/typing', '', 0)
  t.strictSame((await alice.takes('typing', ({ topic }) => topic === 'u/alice/typing')).body, { from: 'bob', on: true })

  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  for (const actor of [alice, bob, bobsWeb]) await actor.receives({ group: 'team', seq: 1 })
  await alice.client.subscribeAsync('g/team/typing')
  await bob.publishes('g/team/typing', '', 0)
  t.strictSame((await alice.takes('typing', ({ topic }) => topic === 'g/team/typing')).body, { from: 'bob', on: true })
  await bob.reads('g/team', 1)
  const want = JSON.stringify({ receipts: { bob: [1, 1] } })
  await eventually(async () => JSON.stringify(await alice.calls('receipts', { conv: 'g/team' })) === want, { what: 'bob has read it' })
})

t.test('receipts of a peer with a device on each node come once in 200 ms, and no node says less than was told', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  const bobsWeb = await a.actor('bob', { device: 'web' })
  let receipts = 0
  const startedMs = performance.now()
  const isReceipt = ({ topic, body }: { topic: string; body: Json }): boolean => topic === 'u/alice/event' && body.type === 'receipt'
  for (let at = 1; at <= 60; at++) await alice.sends('u/bob', `message ${at}`)
  for (const device of [bob, bobsWeb]) await device.receivesRun('u/alice', 1, 60)
  for (let reached = 0; reached < 60; receipts++) {
    const { delivered } = (await alice.takes('a receipt', isReceipt)).body as { delivered: number }
    t.ok(delivered > reached, `${delivered} after ${reached}`)
    reached = delivered
  }
  const most = (performance.now() - startedMs) / 200 + 1
  t.ok(receipts <= most, `${receipts} receipts where there are at most ${most}`)
  for (const node of [a, b]) {
    const { body } = await node.http('POST', '/v1/rpc/conversations', { token: await node.token('alice'), body: {} })
    t.match(body, { conversations: [{ conv: 'u/bob', delivered: 60 }] })
  }
})

t.test('friends, blocks and profiles of the other node count here', { skip }, async (t) => {
  const [a, b] = await twoNodes(t)
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  t.match(await alice.calls('friends.add', { user: 'bob' }), { state: 'requested' })
  await bob.hears({ type: 'friend', user: 'alice', state: 'received' })
  await alice.hears({ type: 'friend', user: 'bob', state: 'requested' })
  t.match(await bob.calls('friends.accept', { user: 'alice' }), { state: 'friend' })
  await alice.hears({ type: 'friend', user: 'bob', state: 'friend' })
  await bob.calls('profile.update', { name: 'Bob' })
  await alice.hears({ type: 'profile', user: 'bob', name: 'Bob', status: 'available' })
  await alice.sends('u/bob', 'hi')
  await bob.receives({ from: 'alice', seq: 1 })
  await bob.calls('blocks.add', { user: 'alice' })
  await alice.hears({ type: 'friend', user: 'bob', state: 'none' })
  // The event and the word to the node about the block take ways of their own; far sooner than what was judged before is judged anew.
  await eventually(() => alice.isRefused('u/bob', 'are you there?', 'blocked').then(() => true), { what: 'the block counts' })
  await bob.calls('blocks.remove', { user: 'alice' })
  await eventually(() => alice.sends('u/bob', 'again?').then(() => true), { what: 'the block is lifted' })
})
