/**
 * The wills on application topics in a cluster. Each node keeps those of its clients in Redis beside a sign of life; when
 * the sign is gone, the first survivor to see it takes them over, each exactly once, since only one can remove a field.
 * A node that was only away finds that they were taken over, and publishes them no more. A client that has come back meanwhile has no will left
 * behind. What Redis has forgotten is written down again with the next sign of life.
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
/** For so long a node that was away can learn that its wills were taken over. */
const takenSeconds = 86_400

export class OpenWills {
  readonly #options: OpenWillsOptions
  #node = ''
  /** Of clients that are here. */
  readonly #own = new Map<string, Buffer>()
  /** Aedes removes what it has published; those that were taken are removed, and the client may have left another since. */
  readonly #taken = new Set<string>()
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
    const bytes = encodePacket(packet)
    this.#own.set(client, bytes)
    await this.#options.redis.hset(this.#key(`wills:${this.#node}`), client, bytes)
  }

  /** Of this node. */
  async remove(client: string): Promise<void> {
    if (this.#taken.delete(client)) return
    this.#own.delete(client)
    await this.#options.redis.hdel(this.#key(`wills:${this.#node}`), client)
  }

  /** Its client was lost. True: it is this node's to publish; false: it has been published. While Redis is away it may come twice rather than never. */
  async take(client: string): Promise<boolean> {
    const { redis } = this.#options
    this.#taken.add(client)
    if (!this.#own.delete(client)) return false
    try {
      return (await redis.hdel(this.#key(`wills:${this.#node}`), client)) > 0 || (await redis.exists(this.#takenKey(this.#node))) === 0
    } catch {
      return true
    }
  }

  #takenKey(node: string): string {
    return this.#key(`wills-taken:${node}`)
  }

  /** Wherever they are: the client is here now, and a node that lives publishes by itself what it has to. */
  async removeAll(client: string): Promise<void> {
    const { redis } = this.#options
    this.#own.delete(client)
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
      await this.#agree()
      for (const node of await redis.smembers(this.#key('nodes'))) {
        if (node !== this.#node && (await redis.exists(this.#key(`node:${node}`))) === 0) await this.#takeOver(node)
      }
    } catch (error) {
      logger.debug({ fault: (error as Error).message }, 'wills are looked after in the next round')
    }
  }

  /** What is here and what Redis has are the same, unless one of them was away. */
  async #agree(): Promise<void> {
    const { redis } = this.#options
    const key = this.#key(`wills:${this.#node}`)
    if ((await redis.hlen(key)) === this.#own.size) return
    const isTaken = (await redis.exists(this.#takenKey(this.#node))) > 0
    // Those that were put before Redis is asked are in its answer.
    const own = [...this.#own]
    const kept = new Set(await redis.hkeys(key))
    for (const [client, bytes] of own) {
      if (kept.has(client) || this.#own.get(client) !== bytes) continue
      if (isTaken) this.#own.delete(client)
      else await redis.hset(key, client, bytes)
    }
    for (const client of kept) if (!this.#own.has(client)) await redis.hdel(key, client)
  }

  async #takeOver(node: string): Promise<void> {
    const { redis, publish, logger } = this.#options
    const key = this.#key(`wills:${node}`)
    await redis.set(this.#takenKey(node), '1', 'EX', takenSeconds)
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
