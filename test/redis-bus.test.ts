/** The bus over a real Redis: what one node says the others hear, in order; what is not signed by a node of the store nobody hears. */
import { randomBytes } from 'node:crypto'
import { type AddressInfo, connect, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { createLogger } from '../broker/logger.js'
import { RedisBus } from '../broker/redis/redis-bus.js'
import { eventually } from './helper/eventually.js'
import { newPrefix, startRedis, type TestRedis } from './helper/redis.js'

const logger = createLogger('silent')
const key = randomBytes(32)
const redis = (await startRedis(t)) as TestRedis
if (redis === undefined) process.exit(0)

async function openBus(
  t: Test,
  prefix: string,
  nodeId: string,
  itsKey = key,
  url = redis.url,
): Promise<{ bus: RedisBus; heard: string[] }> {
  const bus = await RedisBus.open({ url, prefix, nodeId, key: itsKey, logger })
  t.teardown(() => bus.close())
  const heard: string[] = []
  bus.on('greeting', (message, node) => void heard.push(`${node.replace(/-[0-9a-f]{8}$/, '')}: ${message}`))
  return { bus, heard }
}

t.test('each node hears the others in order, and not itself', async (t) => {
  const prefix = newPrefix()
  const [a, b, c] = [await openBus(t, prefix, 'a'), await openBus(t, prefix, 'b'), await openBus(t, prefix, 'c')]
  for (let i = 0; i < 100; i++) a.bus.publish('greeting', Buffer.from(String(i)))
  b.bus.publish('unknown', Buffer.from('nobody handles it'))
  const expected = Array.from({ length: 100 }, (_, i) => `a: ${i}`)
  for (const { heard } of [b, c]) await eventually(() => heard.length === 100)
  t.same(b.heard, expected)
  t.same(c.heard, expected)
  t.same(a.heard, [])
  t.ok(a.bus.isUp)
})

t.test('two starts of a node have different names, and two deployments do not hear each other', async (t) => {
  const [a, b] = [await openBus(t, newPrefix(), 'a'), await openBus(t, newPrefix(), 'a')]
  t.not(a.bus.node, b.bus.node)
  a.bus.publish('greeting', Buffer.from('hello'))
  b.bus.publish('greeting', Buffer.from('hello'))
  const [c, d] = [await openBus(t, newPrefix(), 'c'), await openBus(t, newPrefix(), 'd')]
  t.same([a.heard, b.heard, c.heard, d.heard], [[], [], [], []])
})

t.test('who may have missed something is told: after a break of his own, and when another could not speak', async (t) => {
  const prefix = newPrefix()
  const [a, b] = [await openBus(t, prefix, 'a'), await openBus(t, prefix, 'b')]
  const missed = { a: 0, b: 0 }
  a.bus.onMissed(() => void missed.a++)
  b.bus.onMissed(() => void missed.b++)
  a.bus.publish('greeting', Buffer.from('all is well'))
  await eventually(() => b.heard.length === 1)
  t.same(missed, { a: 0, b: 0 })

  await redis.command('client', 'kill', 'type', 'pubsub')
  await eventually(() => missed.a > 0 && missed.b > 0, { what: 'both have been deaf' })

  const [before] = [{ ...missed }]
  await redis.kill()
  a.bus.publish('greeting', Buffer.from('nobody hears this'))
  await redis.start()
  await eventually(() => a.bus.isUp && b.bus.isUp && missed.b > before.b, { what: 'they hear each other again', timeoutMs: 20_000 })
  const deaf = missed.b
  a.bus.publish('greeting', Buffer.from('here I am'))
  await eventually(() => missed.b > deaf, { what: 'b hears that a could not speak' })
  await eventually(() => b.heard.at(-1) === 'a: here I am')
})

t.test('what was not signed with the key of the store is not heard, and breaks nothing', async (t) => {
  const prefix = newPrefix()
  const [a, b] = [await openBus(t, prefix, 'a'), await openBus(t, prefix, 'b')]
  const stranger = await openBus(t, prefix, 'stranger', randomBytes(32))
  stranger.bus.publish('greeting', Buffer.from('forged'))
  for (const rubbish of ['', 'x', 'x'.repeat(40)]) await redis.command('publish', `${prefix}bus`, rubbish)
  a.bus.publish('greeting', Buffer.from('true'))
  await eventually(() => b.heard.length > 0)
  t.same(b.heard, ['a: true'])
})

t.test('a link that breaks while it subscribes anew ends nothing, and the next one is heard', async (t) => {
  let left = 0
  let broken = 0
  const front = createServer((client) => {
    const server = connect(redis.port, '127.0.0.1')
    client.on('data', (chunk) => {
      if (left > 0 && chunk.toString('latin1').toLowerCase().includes('$9\r\nsubscribe')) {
        left--
        broken++
        client.destroy()
      } else server.write(chunk)
    })
    server.on('data', (chunk) => client.write(chunk))
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const)
      socket.on('error', () => socket.destroy()).on('close', () => other.destroy())
  })
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve))
  t.teardown(() => front.close())
  const prefix = newPrefix()
  const [a, b] = [
    await openBus(t, prefix, 'a'),
    await openBus(t, prefix, 'b', key, `redis://127.0.0.1:${(front.address() as AddressInfo).port}`),
  ]
  left = 2
  await redis.command('client', 'kill', 'type', 'pubsub')
  await eventually(() => broken === 2, { timeoutMs: 15_000 })
  await eventually(
    () => {
      a.bus.publish('greeting', Buffer.from('again'))
      return b.heard.includes('a: again')
    },
    { timeoutMs: 15_000, everyMs: 50 },
  )
})

t.test('a bus whose subscriptions are cut, or whose Redis is killed, is down for a while and then heard again', async (t) => {
  const prefix = newPrefix()
  const [a, b] = [await openBus(t, prefix, 'a'), await openBus(t, prefix, 'b')]
  const heardAgain = async (word: string): Promise<void> => {
    await eventually(
      () => {
        a.bus.publish('greeting', Buffer.from(word))
        return b.heard.includes(`a: ${word}`)
      },
      { timeoutMs: 15_000, everyMs: 50 },
    )
  }
  await redis.command('client', 'kill', 'type', 'pubsub')
  await heardAgain('after a cut')
  await redis.kill()
  await eventually(() => !a.bus.isUp && !b.bus.isUp)
  a.bus.publish('greeting', Buffer.from('lost'))
  await redis.start()
  await heardAgain('after a restart')
  t.notOk(b.heard.includes('a: lost'), 'nothing is kept for later')
})
