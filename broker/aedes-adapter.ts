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
import { hubPacketIdMax } from './in-flight.js'
import type { Logger } from './logger.js'
import type { Connect } from './mqtt/validate.js'
import type { Caller } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import { OpenTopicsPersistence } from './store/open-topics-persistence.js'
import type { Store } from './store/store.js'

export interface AedesAdapterOptions {
  config: Config
  logger: Logger
  plugins: PluginHost
  store: Store
  /** A will on a chat topic, after its client was lost. */
  publishWill(caller: Caller, topic: string, payload: Buffer, retain: boolean): void
}

/** Private to Aedes, relied on here and tested. */
interface PrivateClient {
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

const packetIdBehind = (id: number | undefined): number =>
  id === undefined || id < hubPacketIdMax || id >= aedesPacketIdRestart ? hubPacketIdMax + 1 : id + 1

/** Client ids inside Aedes: users and anonymous clients can never meet, since a user id has no `$`. */
const scopedId = (username: string | undefined, clientId: string): string =>
  `${username ?? '$anonymous'}/${clientId === '' ? randomUUID() : clientId}`

export class AedesAdapter {
  readonly #broker: Aedes
  readonly #persistence: OpenTopicsPersistence
  readonly #options: AedesAdapterOptions
  readonly #connections = new WeakMap<object, Connection>()
  readonly #forwards = new WeakMap<AedesStream, Set<string>>()
  /** Of a SUBSCRIBE with several filters only the granted ones may be stored. */
  readonly #granted = new WeakSet<object>()

  constructor(options: AedesAdapterOptions) {
    this.#options = options
    this.#persistence = new OpenTopicsPersistence({
      store: options.store.openTopics,
      isGranted: (sub) => this.#granted.has(sub),
      isForwarded: (client, packet) => this.#isForwarded((client as Partial<PrivateClient>).conn, packet),
      logger: options.logger,
    })
    this.#broker = new Aedes({
      mq: mqemitter({ concurrency: 0, matchEmptyLevels: true }),
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
        // Behind the ids of the session that are still in use [MQTT-2.3.1-4].
        const lastId = connection.connect?.clean ? undefined : this.#persistence.lastPacketId({ id: packet.clientId })
        const inner = client as unknown as PrivateClient
        inner._nextId = packetIdBehind(lastId)
        inner.duplicates = noDuplicates
        callback(null, true)
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
    if (caller === undefined) return callback(new Error('nobody published this'))
    const { plugins, publishWill } = this.#options
    if (plugins.authorizeOpenPublish(caller, packet.topic)) return callback(null)
    callback(new Error(`${packet.topic} may not be published to`))
    if (caller.user !== '') publishWill(caller, packet.topic, Buffer.from(packet.payload), packet.retain)
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
