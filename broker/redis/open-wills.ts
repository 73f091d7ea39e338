/**
 * The wills on application topics in a cluster. Each node keeps those of its clients in Redis beside a sign of life; when
 * the sign is gone, the first survivor to see it takes them over, each exactly once, since only one can remove a field.
 * A client that has come back meanwhile has no will left behind.
 */
import type { Logger } from '../logger.js'
import { decodePacket, encodePacket, type OpenPacket } from '../store/open-packet.js'
import type { RedisConnection } from './connect.js'
import { hashEntries } from './hash-entries.js'

export interface OpenWillsOptions {
  redis: RedisConnection
  prefix: string
  logger: Logger
  /** A will of a client whose node has died. */
  publish(client: string, packet: OpenPacket): Promise<void>
  /** How long a node is thought alive after its last sign; it gives three in that time. */
  lifeMs?: number
}

const lifeMsDefault = 15_000

export class OpenWills {
  readonly #options: OpenWillsOptions
  #node = ''
  #timer: NodeJS.Timeout | undefined

  constructor(options: OpenWillsOptions) {
    this.#options = options
  }

  #key(name: string): string {
    return `${this.#options.prefix}${name}`
  }

  /** Resolves after the first sign of life. */
  async start(node: string): Promise<void> {
    this.#node = node
    const { lifeMs = lifeMsDefault, redis } = this.#options
    await this.#live(lifeMs)
    await redis.sadd(this.#key('nodes'), node)
    this.#timer = setInterval(() => void this.#round(lifeMs), lifeMs / 3).unref()
  }

  async put(client: string, packet: OpenPacket): Promise<void> {
    await this.#options.redis.hset(this.#key(`wills:${this.#node}`), client, encodePacket(packet))
  }

  /** Of this node. */
  async remove(client: string): Promise<void> {
    await this.#options.redis.hdel(this.#key(`wills:${this.#node}`), client)
  }

  /** Wherever they are: the client is here now, and a node that lives publishes by itself what it has to. */
  async removeAll(client: string): Promise<void> {
    const { redis } = this.#options
    const nodes = await redis.smembers(this.#key('nodes'))
    await Promise.all(nodes.map((node) => redis.hdel(this.#key(`wills:${node}`), client)))
  }

  async #live(lifeMs: number): Promise<void> {
    await this.#options.redis.set(this.#key(`node:${this.#node}`), '1', 'PX', lifeMs)
  }

  async #round(lifeMs: number): Promise<void> {
    const { redis, logger } = this.#options
    try {
      await this.#live(lifeMs)
      await redis.sadd(this.#key('nodes'), this.#node)
      for (const node of await redis.smembers(this.#key('nodes'))) {
        if (node !== this.#node && (await redis.exists(this.#key(`node:${node}`))) === 0) await this.#takeOver(node)
      }
    } catch (error) {
      logger.debug({ fault: (error as Error).message }, 'wills are looked after in the next round')
    }
  }

  async #takeOver(node: string): Promise<void> {
    const { redis, publish, logger } = this.#options
    const key = this.#key(`wills:${node}`)
    for await (const { field, value } of hashEntries(redis, key)) {
      if ((await redis.hdel(key, field)) === 0) continue
      try {
        await publish(field, decodePacket(value).packet)
      } catch (error) {
        // It is still to be published, by whoever is first in the next round.
        await redis.hset(key, field, value)
        throw error
      }
    }
    await redis.srem(this.#key('nodes'), node)
    logger.info({ node }, 'another node has died; its wills are published')
  }

  /** Nothing of this node remains. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    const { redis } = this.#options
    await redis.srem(this.#key('nodes'), this.#node)
    await redis.del(this.#key(`node:${this.#node}`))
    await redis.del(this.#key(`wills:${this.#node}`))
  }
}
