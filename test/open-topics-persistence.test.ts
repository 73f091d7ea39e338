/** Open topics over a restart: what Aedes' persistence holds comes back from the store, bounded and in order. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import type { OpenPacket } from '../broker/store/open-packet.js'
import { type OpenTopicsOptions, OpenTopicsPersistence } from '../broker/store/open-topics-persistence.js'
import { type KeyValueStore, type Store, StoreUnavailable } from '../broker/store/store.js'
import { eventually } from './helper/eventually.js'

const broker = { id: 'broker-1' }
const client = { id: 'alice/phone' }
const packet = (n: number, more: Partial<OpenPacket> = {}): OpenPacket => ({
  cmd: 'publish',
  topic: 'iot/lamp',
  payload: Buffer.from(`on ${n}`),
  qos: 1,
  brokerId: broker.id,
  brokerCounter: n,
  ...more,
})

async function newStore(t: Test): Promise<Store> {
  const dir = await mkdtemp(join(tmpdir(), 'parley-open-'))
  const store = await createLmdbStore({ dir })
  t.teardown(async () => {
    await store.close()
    await rm(dir, { recursive: true, force: true })
  })
  return store
}

async function start(store: KeyValueStore, options: Partial<OpenTopicsOptions> = {}): Promise<OpenTopicsPersistence> {
  const persistence = new OpenTopicsPersistence({ store, isGranted: () => true, isForwarded: () => false, ...options })
  await persistence.setup(broker)
  return persistence
}

async function list(stream: Readable): Promise<OpenPacket[]> {
  return (await stream.toArray()) as OpenPacket[]
}

const texts = (packets: OpenPacket[]) => packets.map(({ payload }) => String(payload))

t.test('aedes accepts its setup', async (t) => {
  t.equal(OpenTopicsPersistence.prototype.setup.constructor.name, 'AsyncFunction')
})

t.test('what is kept keeps nothing else in memory', async (t) => {
  const { openTopics: store } = await newStore(t)
  const persistence = await start(store)
  const part = (n: number): OpenPacket => packet(n, { messageId: n, payload: Buffer.alloc(100_000, 'small').subarray(0, 5) })
  await persistence.storeRetained(part(1))
  await persistence.outgoingEnqueue({ clientId: client.id }, part(2))
  await persistence.outgoingEnqueueCombi([{ clientId: client.id }, { clientId: 'bob/phone' }], part(3))
  await persistence.incomingStorePacket(client, part(4))
  const kept = [
    ...(await list(persistence.createRetainedStream('#'))),
    ...(await list(persistence.outgoingStream(client))),
    ...(await list(persistence.outgoingStream({ id: 'bob/phone' }))),
    (await persistence.incomingGetPacket(client, { messageId: 4 })) as OpenPacket,
  ]
  t.same(
    texts(kept),
    Array.from({ length: 5 }, () => 'small'),
  )
  for (const { payload } of kept) t.equal((payload as Buffer).buffer.byteLength, 5)
})

t.test('retained messages survive, are replaced and removed', async (t) => {
  const { openTopics: store } = await newStore(t)
  const before = await start(store)
  for (const topic of ['a', 'b/c', '__proto__', 't'.repeat(2_000)]) await before.storeRetained(packet(1, { topic, retain: true }))
  await before.storeRetained(packet(2, { topic: 'a', retain: true }))
  await before.storeRetained(packet(3, { topic: 'b/c', payload: Buffer.alloc(0) }))
  await before.destroy()
  const after = await start(store)
  const found = await list(after.createRetainedStream('#'))
  t.same(found.map(({ topic, payload }) => `${topic?.slice(0, 9)} ${payload}`).sort(), ['__proto__ on 1', 'a on 2', 'ttttttttt on 1'])
  t.same(
    found.every(({ retain, qos }) => retain === true && qos === 1),
    true,
  )
  await after.destroy()
})

t.test('more retained topics than the limit are not kept, those that exist are replaced', async (t) => {
  const { openTopics: store } = await newStore(t)
  const persistence = await start(store, { retainedMax: 2 })
  for (const topic of ['a', 'b', 'c']) await persistence.storeRetained(packet(1, { topic }))
  await persistence.storeRetained(packet(2, { topic: 'a' }))
  t.same((await list(persistence.createRetainedStream('#'))).map(({ topic }) => topic).sort(), ['a', 'b'])
  await persistence.storeRetained(packet(3, { topic: 'b', payload: '' }))
  await persistence.storeRetained(packet(4, { topic: 'c' }))
  t.same(texts(await list(persistence.createRetainedStream('#'))), ['on 2', 'on 4'])
  await persistence.destroy()
})

t.test('retained messages take so many bytes and no more, also after a restart', async (t) => {
  const { openTopics: store } = await newStore(t)
  const limits = { retainedBytesMax: 3_000 }
  const of = (topic: string, bytes: number): OpenPacket => packet(1, { topic, payload: Buffer.alloc(bytes, 'x') })
  const kept = async (persistence: OpenTopicsPersistence): Promise<string[]> =>
    (await list(persistence.createRetainedStream('#'))).map(({ topic, payload }) => `${topic} ${payload?.length}`).sort()
  const before = await start(store, limits)
  for (const topic of ['a', 'b', 'c']) await before.storeRetained(of(topic, 1_200))
  t.same(await kept(before), ['a 1200', 'b 1200'])
  await before.storeRetained(of('a', 1_500))
  t.same(await kept(before), ['a 1500', 'b 1200'])
  await before.storeRetained(of('b', 2_000))
  t.same(await kept(before), ['a 1500'], 'what is not retained is not shown as it was before')
  await before.storeRetained(of('c', 1_000))
  await before.destroy()
  const after = await start(store, limits)
  await after.storeRetained(of('d', 1_000))
  t.same(await kept(after), ['a 1500', 'c 1000'])
  await after.storeRetained(packet(2, { topic: 'a', payload: '' }))
  await after.storeRetained(of('d', 1_000))
  t.same(await kept(after), ['c 1000', 'd 1000'])
  await after.destroy()
})

t.test('only granted subscriptions are stored, and they survive', async (t) => {
  const { openTopics: store } = await newStore(t)
  const granted = new WeakSet<object>()
  const isGranted = (sub: object) => granted.has(sub)
  const before = await start(store, { isGranted })
  const subs = [
    { topic: 'iot/#', qos: 1 },
    { topic: 'secret/boss', qos: 1 },
    { topic: 'iot/x', qos: 0 },
  ]
  for (const at of [0, 2]) granted.add(subs[at] as object)
  await before.addSubscriptions(client, subs)
  await before.addSubscriptions({ id: 'eve/web' }, [{ topic: 'secret/boss', qos: 1 }])
  await before.removeSubscriptions(client, ['iot/x'])
  await before.destroy()
  const after = await start(store, { isGranted })
  t.match(await after.subscriptionsByClient(client), [{ topic: 'iot/#', qos: 1 }])
  t.same(await after.subscriptionsByTopic('secret/boss'), [])
  t.equal((await after.subscriptionsByTopic('iot/lamp')).length, 1)
  await after.cleanSubscriptions(client)
  await after.destroy()
  t.same(await (await start(store, { isGranted })).subscriptionsByClient(client), [])
})

t.test('a queue survives in order, with packet ids and a PUBREL in its place', async (t) => {
  const { openTopics: store } = await newStore(t)
  const before = await start(store)
  for (let n = 1; n <= 30; n++) await before.outgoingEnqueueCombi([{ clientId: client.id }, { clientId: 'bob/web' }], packet(n))
  await before.outgoingUpdate(client, packet(1, { messageId: 100 }))
  await before.outgoingUpdate(client, packet(2, { messageId: 101 }))
  await before.outgoingUpdate(client, packet(3, { messageId: 102 }))
  for (const messageId of [101, 102]) await before.outgoingUpdate(client, { cmd: 'pubrel', messageId })
  await before.outgoingClearMessageId(client, { cmd: 'puback', messageId: 100 })
  t.equal(await before.outgoingClearMessageId(client, { cmd: 'puback', messageId: 555 }), undefined)
  await t.rejects(before.outgoingUpdate(client, packet(99)), /no such packet/)
  await before.destroy()

  const after = await start(store)
  const [first, second, ...rest] = await list(after.outgoingStream(client))
  t.match(
    [first, second],
    [
      { cmd: 'pubrel', messageId: 101 },
      { cmd: 'pubrel', messageId: 102 },
    ],
  )
  t.same(
    texts(rest),
    Array.from({ length: 27 }, (_, i) => `on ${i + 4}`),
  )
  t.ok(rest.every(({ messageId }) => messageId === undefined))
  t.equal((await list(after.outgoingStream({ id: 'bob/web' }))).length, 30)
  await after.outgoingEnqueue({ clientId: client.id }, packet(31))
  t.equal(texts(await list(after.outgoingStream(client))).at(-1), 'on 31', 'new ones stand behind the restored')
  await after.cleanSubscriptions(client)
  t.same(await list(after.outgoingStream(client)), [], 'a clean session has no queue')
  await after.destroy()
  t.same(await list((await start(store)).outgoingStream(client)), [])
})

t.test('a full queue loses its oldest packets, by count and by bytes', async (t) => {
  const { openTopics: store } = await newStore(t)
  const before = await start(store, { queuedPacketsMax: 10, queuedBytesMax: 5_000 })
  for (let n = 1; n <= 25; n++) await before.outgoingEnqueue({ clientId: client.id }, packet(n))
  for (let n = 1; n <= 9; n++) await before.outgoingEnqueue({ clientId: 'big' }, packet(n, { payload: Buffer.alloc(1_500, `${n}`) }))
  await before.destroy()
  const after = await start(store)
  t.same(
    texts(await list(after.outgoingStream(client))),
    Array.from({ length: 10 }, (_, i) => `on ${i + 16}`),
  )
  t.same(
    texts(await list(after.outgoingStream({ id: 'big' }))).map(([digit]) => digit),
    ['7', '8', '9'],
  )
})

t.test('while the store fails nothing is lost or kept in vain, and it is saved when the store works again', async (t) => {
  const { openTopics } = await newStore(t)
  let failing = true
  let writes = 0
  const guard = async <T>(write: () => Promise<T>): Promise<T> => {
    writes += 1
    if (failing) throw new StoreUnavailable('no room')
    return write()
  }
  const flaky: KeyValueStore = {
    get: (key) => openTopics.get(key),
    getAll: (keys) => openTopics.getAll(keys),
    put: (key, value) => guard(() => openTopics.put(key, value)),
    add: (key, value) => guard(() => openTopics.add(key, value)),
    remove: (key) => guard(() => openTopics.remove(key)),
    entries: (prefix) => openTopics.entries(prefix),
  }
  const persistence = await start(flaky)
  await persistence.storeRetained(packet(1, { topic: 'a' }))
  await eventually(() => writes > 0)
  await persistence.storeRetained(packet(2, { topic: 'a' }))
  for (let n = 1; n <= 50; n++) {
    await persistence.outgoingEnqueue({ clientId: client.id }, packet(n))
    await persistence.outgoingClearMessageId(client, packet(n, { messageId: undefined }))
  }
  failing = false
  writes = 0
  await persistence.destroy()
  t.equal(writes, 1, 'what came and went is not written')
  t.same(texts(await list((await start(openTopics)).createRetainedStream('#'))), ['on 2'])
})
