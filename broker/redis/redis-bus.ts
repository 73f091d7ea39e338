/**
 * The bus over Redis pub/sub: one channel, on which every node hears everything. Each message is signed with a key that the nodes share
 * through their store, so that whoever only reaches Redis cannot speak as a node. What Redis does not take at once is dropped: nothing
 * waits, and nothing is kept for later.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Bus, BusHandler } from '../bus.js'
import type { Logger } from '../logger.js'
import { within } from '../within.js'
import { connectRedis, type RedisConnection } from './connect.js'
import { keepSubscribed } from './keep-subscribed.js'
import { publishOn } from './one-link.js'

export interface RedisBusOptions {
  url: string
  /** What the channel's name begins with. */
  prefix: string
  /** PARLEY_NODE_ID. */
  nodeId: string
  key: Buffer
  logger: Logger
}

const macBytes = 16
const caughtUpMs = 1_000
/** What a node says that could not say something. */
const missedKind = 'missed'
/** Sent and not yet taken by Redis. */
const unsentBytesMax = 64 * 1024 * 1024

export class RedisBus implements Bus {
  readonly node: string
  readonly #options: RedisBusOptions
  readonly #channel: string
  readonly #publisher: RedisConnection
  readonly #subscriber: RedisConnection
  readonly #handlers = new Map<string, BusHandler>()
  readonly #missedHandlers: (() => void)[] = []
  #unsentBytes = 0
  /** Something was not told, and the others do not know that. */
  #hasDropped = false
  #isStrangeLogged = false

  private constructor(options: RedisBusOptions, publisher: RedisConnection, subscriber: RedisConnection) {
    this.#options = options
    this.#publisher = publisher
    this.#subscriber = subscriber
    this.#channel = `${options.prefix}bus`
    this.node = `${options.nodeId}-${randomBytes(4).toString('hex')}`
    subscriber.on('messageBuffer', (_channel: Buffer, message: Buffer) => this.#hear(message))
  }

  /** Resolves when the node hears the others; rejects with OperatorError when Redis cannot be used. */
  static async open(options: RedisBusOptions): Promise<RedisBus> {
    const { url, logger } = options
    const publisher = await connectRedis({ url, logger, name: 'bus-publish' })
    try {
      const subscriber = await connectRedis({ url, logger, name: 'bus-subscribe' })
      const bus = new RedisBus(options, publisher, subscriber)
      await keepSubscribed(subscriber, bus.#channel, () => bus.#missed())
      return bus
    } catch (error) {
      publisher.disconnect()
      throw error
    }
  }

  get isUp(): boolean {
    return this.#publisher.status === 'ready' && this.#subscriber.status === 'ready'
  }

  publish(kind: string, message: Buffer): void {
    if (this.#publisher.status !== 'ready' || this.#unsentBytes > unsentBytesMax) {
      this.#hasDropped = true
      return
    }
    const signed = this.#sign(Buffer.concat([named(this.node), named(kind), message]))
    this.#unsentBytes += signed.length
    publishOn(this.#publisher, this.#channel, signed).then(
      () => {
        this.#unsentBytes -= signed.length
        if (!this.#hasDropped) return
        this.#hasDropped = false
        this.publish(missedKind, nothing)
      },
      () => {
        this.#unsentBytes -= signed.length
        this.#hasDropped = true
      },
    )
  }

  onMissed(handler: () => void): void {
    this.#missedHandlers.push(handler)
  }

  /** The answer comes on the same link behind all that Redis had to say before. */
  async caughtUp(): Promise<void> {
    if (!this.isUp) throw new Error('the bus is down')
    await within(caughtUpMs, this.#subscriber.subscribe(this.#channel))
  }

  #missed(): void {
    for (const handler of this.#missedHandlers) handler()
  }

  on(kind: string, handler: BusHandler): void {
    if (this.#handlers.has(kind)) throw new Error(`${kind} has a handler`)
    this.#handlers.set(kind, handler)
  }

  #sign(content: Buffer): Buffer {
    return Buffer.concat([this.#macOf(content), content])
  }

  #macOf(content: Buffer): Buffer {
    return createHmac('sha256', this.#options.key).update(content).digest().subarray(0, macBytes)
  }

  #hear(message: Buffer): void {
    const content = message.subarray(macBytes)
    if (message.length < macBytes + 2 || !timingSafeEqual(message.subarray(0, macBytes), this.#macOf(content))) return this.#heardStrange()
    const [node, rest] = nameIn(content)
    if (node === this.node) return
    const [kind, body] = nameIn(rest)
    if (kind === missedKind) return this.#missed()
    try {
      this.#handlers.get(kind)?.(body, node)
    } catch (error) {
      this.#options.logger.error({ err: error, kind, node }, 'a message of another node could not be handled')
    }
  }

  #heardStrange(): void {
    if (this.#isStrangeLogged) return
    this.#isStrangeLogged = true
    const { prefix, logger } = this.#options
    logger.warn(
      { channel: `${prefix}bus` },
      'a message on the bus was not signed by a node of this store and is ignored; is PARLEY_REDIS_PREFIX shared?',
    )
  }

  close(): void {
    this.#publisher.disconnect()
    this.#subscriber.disconnect()
  }
}

const nothing = Buffer.alloc(0)

const named = (name: string): Buffer => Buffer.concat([Buffer.from([Buffer.byteLength(name)]), Buffer.from(name)])

function nameIn(bytes: Buffer): [name: string, rest: Buffer] {
  const end = 1 + (bytes[0] ?? 0)
  return [bytes.toString('utf8', 1, end), bytes.subarray(end)]
}
