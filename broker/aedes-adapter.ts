/**
 * The only file that knows Aedes, its hooks and its private parts. Aedes is the engine of sessions, protocol and
 * application topics; chat never enters it. test/aedes-adapter.test.ts fails when an update changes what is relied on here:
 * `client._nextId`, `client.duplicates`, `client.conn`, `client.subscriptions`, the order authenticate → CONNACK → queued packets →
 * `clientReady`, `persistence.setup`.
 */
import { randomUUID } from 'node:crypto'
import type { AedesPublishPacket, Client, Subscription } from 'aedes'
import { Aedes } from 'aedes'
import mqemitter from 'mqemitter'
import type { AedesStream } from './aedes-stream.js'
import type { Config } from './config.js'
import type { Connection } from './connection.js'
import { HeldDeliveries } from './held-deliveries.js'
import { hubPacketIdMax } from './in-flight.js'
import { InTurn } from './in-turn.js'
import type { Logger } from './logger.js'
import type { Connect } from './mqtt/validate.js'
import type { Caller } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import type { OpenPacket } from './store/open-packet.js'
import { type OpenTopicsGuards, OpenTopicsPersistence, type OpenTopicsState } from './store/open-topics-persistence.js'
import type { Store } from './store/store.js'

/** What nodes share of the open topics. */
interface SharedOpenTopics {
  /** Aedes' name of this node. */
  id: string
  /** In place of Aedes' emitter. */
  emitter: object
  state: OpenTopicsState
  /** Resolves when other nodes can be told, and rejects when that takes too long. */
  whenUp(): Promise<void>
  /** The client was lost: whether its will is still to be published. */
  takeWill(client: string): Promise<boolean>
}

export interface SharedOpenTopicsGuards extends OpenTopicsGuards {
  /** A will of a client whose node has died. */
  publishWill(client: string, packet: OpenPacket): Promise<void>
}

export type OpenTopicsFactory = (guards: SharedOpenTopicsGuards) => SharedOpenTopics

export interface AedesAdapterOptions {
  config: Config
  logger: Logger
  plugins: PluginHost
  store: Store
  /** Of a cluster; without it the open topics are this node's own. */
  shared?: OpenTopicsFactory | undefined
  /** A will on a chat topic, after its client was lost. */
  publishWill(caller: Caller, topic: string, payload: Buffer, retain: boolean): void
}

/** Private to Aedes, relied on here and tested. */
interface PrivateClient {
  /** Until it is closed. */
  will: object | null
  _nextId: number
  duplicates: Record<string, number>
  conn: AedesStream
  /** By filter; restored before `clientReady`. */
  subscriptions: Record<string, unknown>
}

interface ForwardedPacket {
  topic: string
  brokerId?: string | null
  brokerCounter?: number
}

/** Forwards of one connection that are remembered, to tell the second copy of a message from the first. */
const forwardsMax = 512

/**
 * Aedes takes a packet for a repeat when a later one has overtaken it, and loses it for good (aedes#994). Nothing is a repeat to
 * it any more; the adapter tells repeats by the very packet.
 */
const noDuplicates: Record<string, number> = new Proxy<Record<string, number>>(Object.create(null), {
  get: () => 0,
  set: () => true,
  deleteProperty: () => true,
})

/** Aedes takes packet ids from the upper half, the hub from the lower; this far up it starts over. */
const aedesPacketIdRestart = 49_152
const refusedSubscription = null
const anonymousUser = '$anonymous'
/** Heard by nobody. */
const emptyTopic = '$SYS/published'
const isTrue = (): boolean => true
const isFalse = (): boolean => false

const packetIdBehind = (id: number | undefined): number =>
  id === undefined || id < hubPacketIdMax || id >= aedesPacketIdRestart ? hubPacketIdMax + 1 : id + 1

/** Client ids inside Aedes: users and anonymous clients can never meet, since a user id has no `$`. */
const scopedId = (username: string | undefined, clientId: string): string =>
  `${username ?? anonymousUser}/${clientId === '' ? randomUUID() : clientId}`

export class AedesAdapter {
  readonly #broker: Aedes
  readonly #persistence: OpenTopicsState
  readonly #options: AedesAdapterOptions
  readonly #connections = new WeakMap<object, Connection>()
  readonly #forwards = new WeakMap<AedesStream, Set<string>>()
  /** Of a SUBSCRIBE with several filters only the granted ones may be stored. */
  readonly #granted = new WeakSet<object>()
  /** Of a cluster. */
  readonly #held = new HeldDeliveries()
  readonly #publishing = new InTurn()
  readonly #whenUp: () => Promise<void>
  readonly #takeWill: ((client: string) => Promise<boolean>) | undefined

  constructor(options: AedesAdapterOptions) {
    this.#options = options
    const guards: OpenTopicsGuards = {
      isGranted: (sub) => this.#granted.has(sub),
      isForwarded: (client, packet) => this.#isForwarded((client as Partial<PrivateClient>).conn, packet),
    }
    const shared = options.shared?.({ ...guards, publishWill: (client, packet) => this.#publishWillOf(client, packet) })
    this.#persistence = shared?.state ?? new OpenTopicsPersistence({ ...guards, store: options.store.openTopics, logger: options.logger })
    this.#takeWill = shared?.takeWill
    this.#whenUp = shared?.whenUp ?? (async () => undefined)
    this.#broker = new Aedes({
      ...(shared !== undefined && { id: shared.id }),
      mq: shared?.emitter ?? mqemitter({ concurrency: 0, matchEmptyLevels: true }),
      persistence: this.#persistence,
      concurrency: 0,
      connectTimeout: 60_000,
      drainTimeout: options.config.slowClientMs,
      queueLimit: 1_000,
      maxClientsIdLength: 1_000,
      preConnect: (client, packet, callback) => {
        const connection = this.#connectionOf(client)
        if (connection === undefined) return callback(new Error('connected without a connection'), false)
        packet.clientId = scopedId(connection.connect?.username, packet.clientId)
        packet.keepalive = 0 // The connection keeps it, at no cost per packet.
        const inner = client as unknown as PrivateClient
        inner.duplicates = noDuplicates
        const start = (lastId: number | undefined): void => {
          inner._nextId = packetIdBehind(lastId)
          callback(null, true)
        }
        // Behind the ids of the session that are still in use [MQTT-2.3.1-4].
        const lastId = connection.connect?.clean ? undefined : this.#persistence.lastPacketId({ id: packet.clientId })
        if (options.shared !== undefined) this.#held.hold(client)
        if (lastId instanceof Promise) lastId.then(start, (error: Error) => callback(error, false))
        else start(lastId)
      },
      // The connection was admitted before Aedes hears of it.
      authenticate: (client, _username, _password, callback) => callback(null, this.#connectionOf(client) !== undefined),
      authorizePublish: (client, packet, callback) => this.#authorizePublish(client, packet as AedesPublishPacket, callback),
      authorizeSubscribe: (client, sub, callback) => {
        const mayReceive = this.#mayReceive(client, sub)
        if (mayReceive) this.#granted.add(sub)
        callback(null, mayReceive ? sub : refusedSubscription)
      },
      authorizeForward: (client, packet) => {
        if (!this.#mayForward(client, packet)) return undefined
        return packet.dup ? { ...packet, dup: false } : packet // A publisher's DUP is not passed on [MQTT-3.3.1-3].
      },
    })
    this.#broker.on('clientReady', (client) => {
      this.#held.release(client)
      this.#connectionOf(client)?.connected(Object.keys((client as unknown as PrivateClient).subscriptions))
    })
    this.#broker.on('error' as never, ((error: Error) => options.logger.error({ err: error }, 'fault of the application topics')) as never)
    this.#broker.on('clientError', (client, error) => options.logger.debug({ err: error, client: client.id }, 'client error'))
    this.#broker.on('connectionError', (_client, error) => options.logger.debug({ err: error }, 'connection error'))
  }

  async listen(): Promise<void> {
    await this.#broker.listen()
  }

  #connectionOf(client: Client | null): Connection | undefined {
    return client === null ? undefined : this.#connections.get(client.conn)
  }

  #callerOf(client: Client | null): Caller | undefined {
    return this.#connectionOf(client)?.caller
  }

  /** Changes of application topics that are not on disk yet. */
  get unsaved(): number {
    return this.#persistence.unsaved
  }

  /** True when a connection needs Aedes from its CONNECT on: for its will, or for what application topics hold of its session. */
  isNeededBy({ username, clientId, willTopic }: Connect): boolean {
    return username === undefined || willTopic !== undefined || (clientId !== '' && this.#persistence.holds(scopedId(username, clientId)))
  }

  /** A connection that was admitted; the first packet of the stream is a CONNECT of it. */
  handle(connection: Connection, stream: AedesStream): void {
    this.#connections.set(stream, connection)
    this.#broker.handle(stream as never)
  }

  /** Only application topics and wills come here; an error keeps a will from being sent. */
  #authorizePublish(client: Client | null, packet: AedesPublishPacket, callback: (error?: Error | null) => void): void {
    const caller = this.#callerOf(client)
    if (caller === undefined || client === null) return callback(new Error('nobody published this'))
    const isWill = packet === (client as unknown as PrivateClient).will
    if (!isWill || this.#takeWill === undefined) return this.#authorizeOf(client, caller, packet, callback)
    const taken = (isOwn: boolean): void =>
      isOwn ? this.#authorizeOf(client, caller, packet, callback) : callback(new Error('another node has published this will'))
    this.#takeWill(client.id).then(taken, callback)
  }

  #authorizeOf(client: Client, caller: Caller, packet: AedesPublishPacket, callback: (error?: Error | null) => void): void {
    const { plugins, publishWill } = this.#options
    if (plugins.authorizeOpenPublish(caller, packet.topic)) {
      if (this.#options.shared === undefined || packet.qos === 0 || client.closed) return callback(null)
      return void this.#publishFirst(client, packet).then(() => callback(null), callback)
    }
    callback(new Error(`${packet.topic} may not be published to`))
    if (caller.user !== '') publishWill(caller, packet.topic, Buffer.from(packet.payload), packet.retain)
  }

  /**
   * Aedes acknowledges QoS 1 before it has stored or sent anything on, and QoS 2 for good once it has the id. So the message is
   * published here, and what is left for Aedes is an empty one that nobody hears.
   */
  async #publishFirst(client: Client, packet: AedesPublishPacket): Promise<void> {
    await this.#publishing.run([client.id], async () => {
      await this.#whenUp()
      if (client.closed) throw new Error('the connection was closed before the message could be published')
      const isRepeat = packet.qos === 2 && (await this.#persistence.incomingGetPacket(client, packet).then(isTrue, isFalse))
      if (isRepeat) return
      const { cmd, topic, payload, qos, retain } = packet
      await new Promise<void>((resolve, reject) => {
        this.#broker.publish({ cmd, topic, payload, qos, retain, dup: false }, (error) => (error ? reject(error) : resolve()))
      })
    })
    packet.topic = emptyTopic
    packet.payload = Buffer.alloc(0)
    packet.retain = false
  }

  /** In the name of a user whose node has died. */
  async #publishWillOf(client: string, { topic = '', payload = '', qos = 0, retain = false }: OpenPacket): Promise<void> {
    const at = client.indexOf('/')
    const user = client.slice(0, at)
    const caller: Caller = { user: user === anonymousUser ? '' : user, device: client.slice(at + 1) }
    const { plugins, publishWill } = this.#options
    if (!plugins.authorizeOpenPublish(caller, topic)) {
      if (caller.user !== '') publishWill(caller, topic, Buffer.from(payload), retain)
      return
    }
    const packet = { cmd: 'publish', topic, payload: Buffer.from(payload), qos, retain, dup: false } as AedesPublishPacket
    await new Promise<void>((resolve, reject) => this.#broker.publish(packet, (error) => (error ? reject(error) : resolve())))
  }

  #mayReceive(client: Client, sub: Subscription): boolean {
    const caller = this.#callerOf(client)
    return caller !== undefined && this.#options.plugins.authorizeOpenSubscribe(caller, sub.topic)
  }

  /** The last gate of every application message; also where one that does not read is cut off. */
  #mayForward(client: Client, packet: ForwardedPacket): boolean {
    const connection = this.#connectionOf(client)
    const inner = client as unknown as PrivateClient
    if (connection === undefined || this.#isForwarded(inner.conn, packet)) return false
    // Aedes takes what is not forwarded from the session's queue, but this is to wait there.
    if (connection.isClosed) return true
    inner._nextId = packetIdBehind(inner._nextId - 1)
    if (connection.unsentBytes > this.#options.config.socketBytesMax) {
      connection.close('it does not read the application messages it has subscribed to')
      return true
    }
    if (!this.#options.plugins.authorizeOpenForward(connection.caller, packet.topic)) return false
    this.#noteForward(inner.conn, packet)
    return true
  }

  /** The same packet came before, by another matching filter or from the queue. */
  #isForwarded(stream: AedesStream | undefined, { brokerId, brokerCounter }: Omit<ForwardedPacket, 'topic'>): boolean {
    if (stream === undefined || !brokerId || brokerCounter === undefined) return false
    return this.#forwards.get(stream)?.has(`${brokerCounter}/${brokerId}`) === true
  }

  #noteForward(stream: AedesStream, { brokerId, brokerCounter }: ForwardedPacket): void {
    if (!brokerId || brokerCounter === undefined) return
    let forwards = this.#forwards.get(stream)
    if (forwards === undefined) {
      forwards = new Set()
      this.#forwards.set(stream, forwards)
    }
    forwards.add(`${brokerCounter}/${brokerId}`)
    if (forwards.size <= forwardsMax) return
    for (const oldest of forwards) {
      forwards.delete(oldest)
      break
    }
  }

  /** Forgets what application topics hold for a session. */
  async forget(user: string, device: string): Promise<void> {
    const client = { id: scopedId(user, device) }
    await this.#persistence.cleanSubscriptions(client)
    await this.#persistence.cleanIncoming(client)
  }

  /** Resolves when the state of the application topics is saved. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#broker.close(() => resolve()))
    await this.#persistence.destroy()
  }
}
