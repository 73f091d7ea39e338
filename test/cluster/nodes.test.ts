/** Nodes of a cluster die, hang, are restarted one by one, and one device comes to two of them at once: nobody loses anything by it. */
import t from 'tap'
import { Chat } from '../helper/chat.js'
import { eventually } from '../helper/eventually.js'
import { publish } from '../helper/packets.js'
import { connectRaw, type RawClient } from '../helper/raw-client.js'
import { type RealCluster, startCluster } from '../helper/real-cluster.js'
import { newRunName } from '../helper/recording-client.js'
import { tokenOf } from '../helper/server-process.js'
import { StockDevice } from '../helper/stock-device.js'

t.setTimeout(240_000)
const cluster = (await startCluster(t)) as RealCluster
const skip = cluster === undefined
const [a, b, c] = cluster?.nodes ?? []

t.test('a node is killed while everybody writes', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  await a?.kill()
  await chat.goesOn()
  await chat.isHeardEverywhere()
  await a?.start()
  await chat.goesOn()
  await chat.ends()
  t.ok(chat.cuts > 0, 'its clients went to the others')
})

t.test('a node is frozen for longer than clients wait, and then goes on as if nothing had happened', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster, { keepaliveS: 2 })
  b?.signal('SIGSTOP')
  await chat.goesOn()
  await chat.isHeardEverywhere()
  b?.signal('SIGCONT')
  await chat.goesOn()
  await chat.ends()
  t.ok(chat.cuts > 0, 'its clients went to the others')
})

t.test('a node that was stopped reads, long after, what its client has sent again elsewhere: it is stored once', { skip }, async (t) => {
  const run = newRunName()
  const [alice, bob] = [`alice-${run}`, `bob-${run}`]
  const connects = async (node: typeof a, user: string, clientId = 'phone'): Promise<RawClient> => {
    const raw = await connectRaw({
      port: node?.mqttPort ?? 0,
      ...{ clientId, clean: false, username: user, password: await tokenOf(user) },
    })
    t.teardown(() => raw.reset())
    await raw.message(`u/${user}/event`, 30_000)
    return raw
  }
  const says = (packetId: number, payload: string, dup = false): Buffer =>
    publish({ topic: `u/${bob}/msg`, qos: 1, packetId, payload, dup })
  await connects(c, bob)
  const first = await connects(a, alice)
  const early = await connects(a, alice, 'tablet')
  // It shall not hear of the later connect before it reads.
  cluster.gate(a as (typeof cluster.nodes)[0], 'redis').cutOff()
  a?.signal('SIGSTOP')
  const stoppedMs = performance.now()
  first.send(says(7, 'one'), says(8, 'two'))
  early.send(
    publish({ topic: 'rpc/group.add', qos: 1, packetId: 9, payload: JSON.stringify({ id: 'late', params: { group: run, users: [bob] } }) }),
  )
  const second = await connects(b, alice)
  for (const [packetId, payload, dup] of [
    [7, 'one', true],
    [8, 'two', true],
    [7, 'three', false],
  ] as const) {
    second.send(says(packetId, payload, dup))
    await second.expect('puback', packetId, 30_000)
  }
  const later = await connects(b, alice, 'tablet')
  for (const method of ['group.create', 'group.add', 'group.remove']) {
    const payload = JSON.stringify({
      id: method,
      params: method === 'group.create' ? { group: run, members: [] } : { group: run, users: [bob] },
    })
    later.send(publish({ topic: `rpc/${method}`, qos: 1, packetId: 20, payload }))
    t.match(JSON.parse((await later.message(`u/${alice}/rpc`, 30_000)).payload.toString()), { id: method, error: undefined })
  }
  await eventually(() => performance.now() - stoppedMs > 4_000, { timeoutMs: 10_000, what: 'so long that it is no busy machine' })
  a?.signal('SIGCONT')
  await first.expectClose(30_000)
  t.match(JSON.parse((await early.message(`u/${alice}/rpc`, 30_000)).payload.toString()), { id: 'late', error: { code: 'unavailable' } })
  cluster.gate(a as (typeof cluster.nodes)[0], 'redis').heal()
  t.equal((await cluster.store.directory.member(run, bob))?.role, undefined, 'a call that came too late undoes nothing')
  t.notOk(
    first.received.some(({ cmd }) => cmd === 'puback'),
    'nor is it acknowledged there',
  )
  const entries = await cluster.store.log.read(`u/${alice}/${bob}`, 1, 100, 100)
  t.same(
    entries.map(({ payload }) => (JSON.parse(payload.toString()) as { body: string }).body),
    ['one', 'two', 'three'],
  )
})

t.test('every node is restarted in order, one after the other', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  for (const node of [a, b, c]) {
    t.same(await node?.stop(), { code: 0, signal: null })
    await node?.start()
    await chat.goesOn()
  }
  await chat.ends()
})

t.test('a hundred devices connect to two nodes at once: of each one session is left, and it is the one that hears', { skip }, async (t) => {
  const run = newRunName()
  const [left, right] = [a, b].map((node) =>
    Array.from({ length: 100 }, (_, i) => new StockDevice(`twin${i}-${run}`, 'phone', node as { mqttPort: number })),
  ) as [StockDevice[], StockDevice[]]
  const both = [...left, ...right]
  t.teardown(() => Promise.all(both.map((device) => device.stops())))
  await Promise.all(both.map((device) => device.starts('once')))
  const survivors = (): StockDevice[] => left.flatMap((device, i) => [device, right[i] as StockDevice].filter(({ isReady }) => isReady))
  const pairs = (): number[] => left.map((device, i) => Number(device.isReady) + Number(right[i]?.isReady))
  await eventually(() => pairs().every((open) => open === 1), { timeoutMs: 60_000, what: 'one of each is left' }).catch((error) => {
    throw new Error(`${(error as Error).message}: ${pairs().join('')}`)
  })
  const writer = new StockDevice(`writer-${run}`, 'phone', c as { mqttPort: number })
  t.teardown(() => writer.stops())
  await writer.starts()
  await eventually(() => writer.isReady)
  left.forEach(({ user }, i) => writer.says(`u/${user}`, `${run}-${i}`))
  const heard = (device: StockDevice): number => device.connections.at(-1)?.received.length ?? 0
  await eventually(() => survivors().length === 100 && survivors().every((device) => heard(device) === 1), { timeoutMs: 60_000 })
  t.ok(
    pairs().every((open) => open === 1),
    'still one of each',
  )
  t.ok(
    both.every((device) => device.isReady || heard(device) === 0),
    'who was closed heard nothing',
  )
  t.comment(`${left.filter(({ isReady }) => isReady).length} of 100 on the first node`)
})
