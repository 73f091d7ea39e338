/** Wills of a node that has died: what could not be published once is published in a later round, and once. */
import { Redis } from 'ioredis'
import t from 'tap'
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
