/** Puts together what the open topics of a cluster need: connections, emitter and state. Its owner is the server; the adapter uses it. */
import { randomUUID } from 'node:crypto'
import type { OpenTopicsFactory } from '../aedes-adapter.js'
import type { Logger } from '../logger.js'
import { connectRedis, type RedisConnection } from './connect.js'
import { OpenEmitter } from './open-emitter.js'
import { RedisOpenTopics } from './open-topics.js'

export interface ClusterOpenTopicsOptions {
  /** As PARLEY_REDIS_URL. */
  url: string
  prefix: string
  logger: Logger
  willLifeMs?: number
}

export interface ClusterOpenTopics {
  create: OpenTopicsFactory
  close(): void
}

/** How long a publish waits for a Redis that is away. */
const awayMsMax = 30_000

function whenReady(redis: RedisConnection): Promise<void> {
  if (redis.status === 'ready') return Promise.resolve()
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      redis.removeListener('ready', ready)
      reject(new Error(`Redis was away for ${awayMsMax} ms`))
    }, awayMsMax).unref()
    const ready = (): void => {
      clearTimeout(timer)
      resolve()
    }
    redis.once('ready', ready)
  })
}

/** Rejects with OperatorError when Redis cannot be used. */
export async function connectOpenTopics({ url, prefix, logger, willLifeMs }: ClusterOpenTopicsOptions): Promise<ClusterOpenTopics> {
  const redis = await connectRedis({ url, logger, name: 'open-topics' })
  const subscriber = await connectRedis({ url, logger, name: 'open-topics-subscriber' })
  // mqemitter-redis takes every message of its connection for one of its own.
  const changes = await connectRedis({ url, logger, name: 'open-topics-changes' })
  // New at each start: Aedes counts its packets from 1 again.
  const node = randomUUID()
  const emitter = new OpenEmitter({ node, channel: `${prefix}open:packets`, publisher: redis, subscriber, logger })
  // One listener for each client that waits.
  redis.setMaxListeners(0)
  await emitter.listen()
  return {
    create: (guards) => {
      const life = willLifeMs === undefined ? {} : { willLifeMs }
      const state = new RedisOpenTopics({ ...guards, redis, subscriber: changes, prefix, logger, ...life })
      return { id: node, emitter, state, whenUp: () => whenReady(redis), takeWill: (client) => state.takeWill(client) }
    },
    close() {
      redis.disconnect()
      subscriber.disconnect()
      changes.disconnect()
    },
  }
}
