/** Open topics on two nodes with one Redis: live messages, sessions that go on at the other node, retained messages, wills, and a Redis that is away. */
import { Redis } from 'ioredis'
import mqemitterRedis from 'mqemitter-redis'
import t, { type Test } from 'tap'
import { createLogger } from '../broker/logger.js'
import { connectRedis } from '../broker/redis/connect.js'
import { Retained } from '../broker/redis/retained.js'
import { encodePacket } from '../broker/store/open-packet.js'
import { eventually } from './helper/eventually.js'
import { type OpenNode, startOpenNode } from './helper/open-node.js'
import { connectRaw, type RawClient, type RawOptions } from './helper/raw-client.js'
import { newPrefix, startRedis, type TestRedis } from './helper/redis.js'

interface Cluster {
  redis: TestRedis
  prefix: string
  a: OpenNode
  b: OpenNode
}

async function startCluster(t: Test): Promise<Cluster | undefined> {
  const redis = await startRedis(t)
  if (redis === undefined) return undefined
  const prefix = newPrefix()
  return { redis, prefix, a: await startOpenNode(t, redis.url, prefix), b: await startOpenNode(t, redis.url, prefix) }
}

async function join(t: Test, { port }: OpenNode, clientId: string, options: Partial<RawOptions> = {}): Promise<RawClient> {
  const client = await connectRaw({ port, clientId, username: 'u', password: 'x', ...options })
  t.teardown(() => client.reset())
  return client
}

const text = (message: { payload: string | Buffer }): string => message.payload.toString()

async function texts(client: RawClient, topic: string, count: number): Promise<string[]> {
  const all: string[] = []
  while (all.length < count) all.push(text(await client.message(topic)))
  return all
}

const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, at) => String(from + at))

t.test('what is published on one node is heard on the other, once, by filters of every kind', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const publisher = await join(t, cluster.a, 'publisher')
  const receiver = await join(t, cluster.b, 'receiver')
  await receiver.subscribe(['room/1', 1], ['room/+', 2], ['we[i]rd/*', 1], ['constructor', 1])
  for (const qos of [0, 1, 2] as const) {
    await publisher.publish('room/1', `qos ${qos}`, { qos })
    t.equal(text(await receiver.message('room/1')), `qos ${qos}`)
  }
  await publisher.publish('we[i]rd/*', 'stars', { qos: 1 })
  await publisher.publish('room/2', 'other', { qos: 1 })
  await publisher.publish('constructor', 'built', { qos: 1 })
  t.equal(text(await receiver.message('we[i]rd/*')), 'stars')
  t.equal(text(await receiver.message('room/2')), 'other')
  t.equal(text(await receiver.message('constructor')), 'built')
  t.equal(receiver.received.filter(({ cmd }) => cmd === 'publish').length, 6)
})

t.test('a persistent session goes on at the other node, in order, and leaves nothing in Redis when it ends', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const { redis, prefix, a, b } = cluster
  const first = await join(t, a, 'away', { clean: false })
  await first.subscribe(['news/a', 1], ['secret/boss', 1], ['news/b', 2])
  first.reset()
  await first.closed
  const publisher = await join(t, b, 'publisher')
  // Node b has heard of the subscriptions when it queues for them.
  await eventually(async () => {
    await publisher.publish('news/b', 'known', { qos: 1 })
    return (await redis.command('EXISTS', `${prefix}open:queue:u/away`)) === '1'
  })
  for (const n of numbers(0, 30)) await publisher.publish('news/a', n, { qos: 1 })
  await publisher.publish('secret/boss', 'no', { qos: 0 })
  const second = await join(t, b, 'away', { clean: false, autoAck: false })
  t.ok(second.sessionPresent)
  t.strictSame(await texts(second, 'news/a', 30), numbers(0, 30))
  second.reset()
  await second.closed
  const third = await join(t, a, 'away', { clean: false })
  const [again] = [await third.message('news/a')]
  t.ok(again.dup, 'what was not acknowledged comes again')
  t.strictSame(await texts(third, 'news/a', 29), numbers(1, 30))
  await eventually(async () => (await redis.command('EXISTS', `${prefix}open:queue:u/away`)) === '0', { what: 'all is acknowledged' })
  third.reset()
  await third.closed
  const last = await join(t, b, 'away', { clean: true })
  t.notOk(last.sessionPresent)
  t.equal(await redis.command('EXISTS', `${prefix}open:subscriptions`), '0')
})

t.test('a session that returns under traffic gets its CONNACK first and everything in order', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const { a, b } = cluster
  const first = await join(t, a, 'busy', { clean: false })
  await first.subscribe(['busy', 1])
  first.reset()
  await first.closed
  const publisher = await join(t, a, 'publisher')
  for (const n of numbers(0, 50)) await publisher.publish('busy', n, { qos: 1 })
  const live = (async () => {
    for (const n of numbers(50, 150)) await publisher.publish('busy', n, { qos: 1 })
  })()
  const second = await join(t, b, 'busy', { clean: false })
  t.strictSame(await texts(second, 'busy', 150), numbers(0, 150))
  t.equal(second.received[0]?.cmd, 'connack')
  await live
})

t.test('retained messages are the same on both nodes', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const publisher = await join(t, cluster.a, 'publisher')
  await publisher.publish('state/a', 'on', { qos: 1, retain: true })
  await publisher.publish('state/b', 'gone', { qos: 1, retain: true })
  await publisher.publish('state/b', '', { qos: 1, retain: true })
  for (const filter of ['state/a', 'state/+', '#']) {
    const receiver = await join(t, cluster.b, `receiver-${filter.length}`)
    await receiver.subscribe([filter, 1])
    const message = await receiver.message('state/a')
    t.ok(message.retain)
    t.equal(text(message), 'on')
  }
})

t.test('retained messages have no more room than they may take, in number and in bytes, whichever node puts them', async (t) => {
  const redis = await startRedis(t)
  if (redis === undefined) return
  const logger = createLogger('silent')
  const key = `${newPrefix()}retained`
  const nodes = await Promise.all(
    ['a', 'b'].map(async (name) => {
      const connection = await connectRedis({ url: redis.url, logger, name })
      t.teardown(() => connection.disconnect())
      return new Retained(connection, key, { messagesMax: 3, bytesMax: 2_000 })
    }),
  )
  const [a, b] = nodes as [Retained, Retained]
  const put = (node: Retained, topic: string, bytes: number) => node.put({ cmd: 'publish', topic, payload: Buffer.alloc(bytes, 'x') })
  const kept = async (): Promise<string[]> => {
    const found: string[] = []
    for await (const { topic, payload = '' } of b.find(['#'])) found.push(`${topic} ${payload.length}`)
    return found.sort()
  }
  for (const [at, node] of [a, b, a].entries()) t.ok(await put(node, `s/${at}`, 100))
  t.notOk(await put(b, 's/3', 1), 'a fourth')
  t.ok(await put(b, 's/0', 900), 'another in the place of one')
  t.notOk(await put(a, 's/1', 900), 'which would be too large')
  t.same(await kept(), ['s/0 900', 's/2 100'], 'what its topic had is old')
  t.ok(await put(a, 's/0', 0))
  t.ok(await put(a, 's/1', 900), 'there is room again')
  t.same(await kept(), ['s/1 900', 's/2 100'])
  for (const topic of ['s/1', 's/2', 's/9']) t.ok(await put(b, topic, 0))
  const client = new Redis(redis.url)
  t.equal(await client.exists(key), 0, 'nothing is left')
  await client.quit()
})

t.test('the will of a client whose node dies is published once, and not when he has come back', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const { redis, prefix, a, b } = cluster
  const c = await startOpenNode(t, redis.url, prefix)
  const witness = await join(t, b, 'witness')
  await witness.subscribe(['last/+', 1])
  const will = (topic: string): Partial<RawOptions> => ({ will: { topic, payload: 'bye', qos: 1 } })
  await join(t, a, 'lost', will('last/lost'))
  await join(t, a, 'moved', will('last/moved'))
  a.kill()
  await join(t, c, 'moved')
  t.equal(text(await witness.message('last/lost')), 'bye')
  await eventually(async () => (await redis.command('SCARD', `${prefix}open:nodes`)) === '2', { what: 'the dead node is forgotten' })
  const wills = witness.received.filter((packet) => packet.cmd === 'publish')
  t.equal(wills.length, 1, 'by one of two survivors')
})

t.test('while Redis is away nothing is acknowledged, and it is published when Redis is back', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const { redis, a, b } = cluster
  const publisher = await join(t, a, 'publisher')
  const receiver = await join(t, b, 'receiver')
  await receiver.subscribe(['x', 1])
  await publisher.publish('x', 'before', { qos: 1 })
  t.equal(text(await receiver.message('x')), 'before')
  await redis.kill()
  let isAcknowledged = false
  const published = publisher.publish('x', 'during', { qos: 1 }).then(() => {
    isAcknowledged = true
  })
  await publisher.ping()
  t.notOk(isAcknowledged)
  await redis.start()
  await published
  // The other node may hear again a little later than this one may speak.
  await eventually(async () => {
    await publisher.publish('x', 'after', { qos: 1 })
    return receiver.received.some((packet) => packet.cmd === 'publish' && text(packet) === 'after')
  })
})

t.test('what a stranger publishes on the channels of the nodes ends nothing and moves nothing', async (t) => {
  const cluster = await startCluster(t)
  if (cluster === undefined) return
  const { redis, prefix, a, b } = cluster
  const publisher = await join(t, a, 'publisher')
  const receiver = await join(t, b, 'receiver')
  await receiver.subscribe(['x', 1])
  const packetOf = (topic: string): Buffer => encodePacket({ cmd: 'publish', topic, payload: 'forged', qos: 1, retain: false })
  const stranger = new Redis(redis.url)
  const forger = mqemitterRedis({ connectionString: redis.url })
  t.teardown(() => {
    stranger.disconnect()
    forger.close(() => undefined)
  })
  // The last four are MessagePack: {}, {id:'1'}, {id:'2',msg:{}} and 7.
  const rubbish = ['', 'x', '{"client":5}', 'null', '\xc1\xc1', '\x80', '\x81\xa2id\xa11', '\x82\xa2id\xa12\xa3msg\x80', '\x07']
  for (const text of rubbish) {
    for (const channel of ['packets', 'changes']) await stranger.publish(`${prefix}open:${channel}`, Buffer.from(text, 'latin1'))
  }
  for (const packet of [undefined, 'text', Buffer.from('short'), packetOf('$SYS/x/new/clients')])
    await new Promise<unknown>((done) => forger.emit({ topic: `${prefix}open:packets`, node: 'stranger', packet }, done))
  await publisher.publish('x', 'true', { qos: 1 })
  t.equal(text(await receiver.message('x')), 'true')
  t.equal(receiver.received.filter(({ cmd }) => cmd === 'publish').length, 1)
})
