/**
 * Aedes' emitter in a cluster: what is published on one node is heard by the subscribers of all. Every node listens to one channel of
 * its own making and looks for the subscribers itself, so no filter of a client becomes a pattern in Redis. A message of QoS 1 or 2
 * that Redis has not taken is told to nobody and its publisher gets the error; one of QoS 0 is at least heard on this node.
 * What Aedes says to itself ($SYS) stays on the node.
 */
import mqemitter, { type Message, type MQEmitter } from 'mqemitter'
import mqemitterRedis from 'mqemitter-redis'
import type { Logger } from '../logger.js'
import { decodePacket, encodePacket, type OpenPacket } from '../store/open-packet.js'
import type { RedisConnection } from './connect.js'
import { keepSubscribed } from './keep-subscribed.js'
import { publishOn } from './one-link.js'

export interface OpenEmitterOptions {
  /** Of this process. */
  node: string
  /** Name of the channel. */
  channel: string
  publisher: RedisConnection
  /** In use by nobody else who subscribes by mqemitter-redis. */
  subscriber: RedisConnection
  logger: Logger
}

interface Carried extends Message {
  node: string
  packet: Buffer
}

type Listener = Parameters<MQEmitter['on']>[1]
type Redis = NonNullable<Parameters<typeof mqemitterRedis>[0]>['subConn']

const own = '$SYS/'

export class OpenEmitter {
  readonly #local = mqemitter({ concurrency: 0, matchEmptyLevels: true })
  readonly #carrier: ReturnType<typeof mqemitterRedis>
  readonly #options: OpenEmitterOptions
  #isStrangeLogged = false

  constructor(options: OpenEmitterOptions) {
    this.#options = options
    // Its types know no Redis Cluster; what it calls, a cluster has too.
    const subConn = guarded(options.subscriber, (fault) => this.#heardStrange(fault)) as Redis & object
    const pubConn = inOrder(options.publisher) as Redis & object
    this.#carrier = mqemitterRedis({ subConn, pubConn })
    const { state } = this.#carrier as unknown as { state: { on(event: 'error', heard: (error: Error) => void): void } }
    // Outages are logged by the connections; without a listener the process would end.
    state.on('error', ({ message }) => options.logger.debug({ fault: message }, 'emitter of the application topics'))
  }

  /** Resolves when other nodes are heard. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#carrier.on(this.#options.channel, (message, done) => this.#hear(message as Carried, done), resolve)
    })
    await keepSubscribed(this.#options.subscriber, this.#options.channel)
  }

  get current(): number {
    return this.#local.current
  }

  get concurrent(): number {
    return this.#local.concurrent
  }

  on(topic: string, listener: Listener, done?: () => void): this {
    this.#local.on(topic, listener, done)
    return this
  }

  removeListener(topic: string, listener: Listener, done?: () => void): void {
    this.#local.removeListener(topic, listener, done)
  }

  emit(message: Message, done: (error?: Error) => void = ignore): void {
    if (message.topic.startsWith(own)) return this.#local.emit(message, done)
    const { node, channel } = this.#options
    const packet = message as unknown as OpenPacket
    this.#carrier.emit({ topic: channel, node, packet: encodePacket(packet) }, (error) => {
      if (error && (packet.qos ?? 0) > 0) return done(error)
      this.#local.emit(message, done)
    })
  }

  #hear({ node, packet }: Carried, done: () => void): void {
    if (node === this.#options.node) return done()
    const message = decodePacket(packet).packet
    if (message.cmd !== 'publish' || typeof message.topic !== 'string' || message.topic.startsWith(own))
      throw new TypeError('it is no message of an application topic')
    this.#local.emit(message as unknown as Message, () => done())
  }

  #heardStrange(fault: string): void {
    if (this.#isStrangeLogged) return
    this.#isStrangeLogged = true
    const { logger, channel } = this.#options
    logger.warn(
      { channel, fault },
      'a message for the application topics was not sent by a node and is ignored; is PARLEY_REDIS_PREFIX shared?',
    )
  }

  /** The connections are their owner's to close. */
  close(done: () => void): void {
    this.#local.close(done)
  }
}

const ignore = (): void => undefined

/** What is published through it arrives in the order in which it was published, on a Redis Cluster too. */
const inOrder = (connection: RedisConnection): RedisConnection =>
  withOwn(connection, 'publish', (channel: string, message: Buffer) => publishOn(connection, channel, message))

/** mqemitter-redis throws at what nobody of its kind has published, and out of an event that ends the process. */
function guarded(connection: RedisConnection, strange: (fault: string) => void): RedisConnection {
  const on = (event: string, listener: (...told: unknown[]) => void): RedisConnection => {
    connection.on(event, (...told: unknown[]) => {
      try {
        listener(...told)
      } catch (error) {
        strange((error as Error).message)
      }
    })
    return connection
  }
  return withOwn(connection, 'on', on)
}

/** The connection with one method in the place of its own. */
function withOwn(connection: RedisConnection, name: 'on' | 'publish', method: unknown): RedisConnection {
  return new Proxy(connection, {
    get(target, asked) {
      if (asked === name) return method
      const value: unknown = Reflect.get(target, asked, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
