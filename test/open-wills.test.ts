/** Wills of a node that has died, or was only away: each is published, in a later round if it must be, and once; also when Redis has forgotten them. */
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { createLogger } from '../broker/logger.js'
import { OpenWills } from '../broker/redis/open-wills.js'
import { encodePacket } from '../broker/store/open-packet.js'
import { eventually } from './helper/eventually.js'
import { newPrefix, redisUrl } from './helper/redis.js'

t.test('a will that could not be published is published later, once', async (t) => {
  const url = await redisUrl(t)
  if (url === undefined) return
  const redis = new Redis(url)
  t.teardown(() => redis.disconnect())
  const prefix = newPrefix()
  await redis.sadd(`${prefix}nodes`, 'dead')
  for (const client of ['u/a', 'u/b'])
    await redis.hset(`${prefix}wills:dead`, client, encodePacket({ cmd: 'publish', topic: `last/${client}`, payload: 'bye', qos: 1 }))
  const published: string[] = []
  let failuresLeft = 1
  const wills = new OpenWills({
    redis,
    prefix,
    logger: createLogger('silent'),
    lifeMs: 150,
    async publish(client, { topic }) {
      if (failuresLeft-- > 0) throw new Error('Redis was away')
      published.push(`${client} ${topic}`)
    },
  })
  await wills.start('alive')
  t.teardown(() => wills.stop())
  await eventually(async () => (await redis.sismember(`${prefix}nodes`, 'dead')) === 0, {
    timeoutMs: 10_000,
    what: 'the dead node is forgotten',
  })
  t.same(published.sort(), ['u/a last/u/a', 'u/b last/u/b'])
})

/** A node with what it has published of others. */
async function startNode(t: Test, redis: Redis, prefix: string, name: string, lifeMs = 150) {
  const published: string[] = []
  const publish = async (client: string): Promise<void> => void published.push(client)
  const wills = new OpenWills({ redis, prefix, logger: createLogger('silent'), lifeMs, publish })
  await wills.start(name)
  t.teardown(() => wills.stop())
  return { wills, published }
}

const will = { cmd: 'publish' as const, topic: 'last', payload: 'bye', qos: 1 as const }

t.test('a node that was only away does not publish the wills that others have published', async (t) => {
  const url = await redisUrl(t)
  if (url === undefined) return
  const redis = new Redis(url)
  t.teardown(() => redis.disconnect())
  const prefix = newPrefix()
  const slow = await startNode(t, redis, prefix, 'slow', 900)
  await slow.wills.put('u/a', will)
  await slow.wills.put('u/b', will)
  const other = await startNode(t, redis, prefix, 'other')
  const isTakenOver = async (): Promise<boolean> => {
    await redis.del(`${prefix}node:slow`)
    return other.published.length === 2
  }
  await eventually(isTakenOver, { timeoutMs: 20_000, what: 'its wills are published by the other' })
  await slow.wills.put('u/c', will)
  t.equal(await slow.wills.take('u/a'), false, 'whether it has looked around or not')
  await eventually(async () => (await redis.sismember(`${prefix}nodes`, 'slow')) === 1, { timeoutMs: 20_000, what: 'it lives' })
  t.equal(await slow.wills.take('u/b'), false)
  t.equal(await slow.wills.take('u/c'), true, 'what came since is its own')
  t.equal(await slow.wills.take('u/c'), false, 'once')
})

t.test('what Redis has forgotten is written down again; a client that comes back has one will', async (t) => {
  const url = await redisUrl(t)
  if (url === undefined) return
  const redis = new Redis(url)
  t.teardown(() => redis.disconnect())
  const prefix = newPrefix()
  const { wills } = await startNode(t, redis, prefix, 'one')
  await wills.put('u/a', will)
  await wills.put('u/b', will)
  await redis.del(`${prefix}wills:one`, `${prefix}nodes`, `${prefix}node:one`)
  t.equal(await wills.take('u/b'), true, 'it is still to be published')
  await eventually(async () => (await redis.hlen(`${prefix}wills:one`)) === 1, { timeoutMs: 20_000, what: 'the other is written again' })
  t.equal(await wills.take('u/a'), true)
  await wills.put('u/a', will)
  await wills.remove('u/a')
  t.equal(await redis.hlen(`${prefix}wills:one`), 1, 'the end of the earlier connection does not take the will of the later one')
  await wills.remove('u/a')
  t.equal(await redis.hlen(`${prefix}wills:one`), 0)
})
