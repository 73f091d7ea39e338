/**
 * The persistence that Aedes uses for open topics (never for chat): its in-memory one, with retained messages,
 * subscriptions of persistent sessions and their queues saved behind it and loaded at start. Everything is bounded.
 * Only granted subscriptions are stored: Aedes hands over every item of a SUBSCRIBE, refused ones too. QoS 2 packets
 * that a client has not released, and wills, live in memory alone.
 */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import MemoryPersistence from 'aedes-persistence/asyncPersistence.js'
import type { Logger } from '../logger.js'
import { OfflineQueues, type QueueLimits } from './offline-queues.js'
import { decodePacket, encodePacket, type OpenPacket, packetBytes, withKeptPayload } from './open-packet.js'
import type { KeyValueStore } from './store.js'
import { WriteBehind } from './write-behind.js'

/** What the adapter knows of Aedes' subscriptions and forwards. */
export interface OpenTopicsGuards {
  /** True for an item of a SUBSCRIBE that was granted; asked with the very object that Aedes holds. */
  isGranted: (sub: OpenSubscription) => boolean
  /** True for a packet that was sent to the client on its present connection: it must stay queued until acknowledged. */
  isForwarded: (client: OpenClient, packet: OpenPacket) => boolean
}

/** What the adapter asks of a persistence beside what Aedes does. */
export interface OpenTopicsState {
  /** Changes that are not saved yet. */
  readonly unsaved: number
  /** True if anything is kept of this session. */
  holds(client: string): boolean
  /** The packet id given last among those of the session that wait for an acknowledgement. */
  lastPacketId(client: OpenClient): number | undefined | Promise<number | undefined>
  cleanSubscriptions(client: OpenClient): Promise<void>
  cleanIncoming(client: OpenClient): Promise<void>
  incomingGetPacket(client: OpenClient, packet: object): Promise<object>
  /** Resolves when everything is saved. */
  destroy(): Promise<void>
}

export interface OpenTopicsOptions extends OpenTopicsGuards {
  store: KeyValueStore
  logger?: Logger
  retainedMax?: number
  /** Of all retained messages: they are kept in memory. */
  retainedBytesMax?: number
  /** Per session. */
  queuedPacketsMax?: number
  /** Per session. */
  queuedBytesMax?: number
}

export interface OpenSubscription {
  topic: string
  qos: number
}

export interface OpenClient {
  id: string
}

const retainedMaxDefault = 100_000
const retainedBytesMaxDefault = 64 * 1024 * 1024
const queuedPacketsMaxDefault = 1_000
const queuedBytesMaxDefault = 4 * 1024 * 1024
/** Longer names are replaced by a digest; the value holds the name. */
const nameBytesMax = 900
const numberDigits = 12

const nameOf = (text: string): string =>
  Buffer.byteLength(text) <= nameBytesMax ? `=${text}` : `#${createHash('sha256').update(text).digest('hex')}`
const retainedKey = (topic: string): string => `retained/${nameOf(topic)}`
const subscriptionsKey = (client: string): string => `subscriptions/${nameOf(client)}`
const queuePrefix = 'queue/'
const queueKey = (client: string, number: number): string =>
  `${queuePrefix}${nameOf(client)}/${number.toString(16).padStart(numberDigits, '0')}`

export class OpenTopicsPersistence extends MemoryPersistence implements OpenTopicsState {
  readonly #options: OpenTopicsOptions
  readonly #saved: WriteBehind
  readonly #queues: OfflineQueues
  /** Bytes by topic. */
  readonly #retained = new Map<string, number>()
  #retainedBytes = 0
  /** Sessions with subscriptions. */
  readonly #subscribed = new Set<string>()
  #isFull = false

  constructor(options: OpenTopicsOptions) {
    super()
    this.#options = options
    this.#saved = new WriteBehind(options.store, options.logger)
    const { queuedPacketsMax: packetsMax = queuedPacketsMaxDefault, queuedBytesMax: bytesMax = queuedBytesMaxDefault } = options
    this.#queues = new OfflineQueues({ packetsMax, bytesMax } satisfies QueueLimits, this.#saved, queueKey)
  }

  /** Loads what was saved. Aedes insists on a function that is declared async. */
  override async setup(broker: object): Promise<void> {
    const { store } = this.#options
    for await (const { value } of store.entries('retained/')) {
      const { packet } = decodePacket(value)
      this.#noteRetained(packet)
      await super.storeRetained(packet)
    }
    for await (const { value } of store.entries('subscriptions/')) {
      const { client, subs } = JSON.parse(value.toString()) as { client: string; subs: OpenSubscription[] }
      await super.addSubscriptions({ id: client }, subs)
      this.#subscribed.add(client)
    }
    for await (const { key, value } of store.entries(queuePrefix)) {
      const { packet, client } = decodePacket(value)
      this.#queues.restore(client, key, Number.parseInt(key.slice(-numberDigits), 16), packet)
    }
    await super.setup(broker)
  }

  /** What has no room is not retained [MQTT-3.3.1.3: the server may discard]; what its topic had before is old, and goes. */
  override async storeRetained(packet: OpenPacket): Promise<void> {
    const { topic = '', payload = '' } = packet
    if (payload.length > 0 && !this.#hasRoom(packet)) {
      if (!this.#isFull)
        this.#options.logger?.warn(
          { topic, retained: this.#retained.size, bytes: this.#retainedBytes },
          'no room for more retained messages',
        )
      this.#isFull = true
      if (this.#retained.has(topic)) await this.#removeRetained(packet)
      return
    }
    this.#isFull = false
    if (payload.length === 0) return this.#removeRetained(packet)
    this.#noteRetained(packet)
    this.#saved.put(retainedKey(topic), encodePacket(packet))
    await super.storeRetained(withKeptPayload(packet))
  }

  #hasRoom(packet: OpenPacket): boolean {
    const { retainedMax = retainedMaxDefault, retainedBytesMax = retainedBytesMaxDefault } = this.#options
    const before = this.#retained.get(packet.topic ?? '')
    const bytes = this.#retainedBytes - (before ?? 0) + packetBytes(packet)
    return bytes <= retainedBytesMax && (before !== undefined || this.#retained.size < retainedMax)
  }

  #noteRetained(packet: OpenPacket): void {
    const { topic = '' } = packet
    const bytes = packetBytes(packet)
    this.#retainedBytes += bytes - (this.#retained.get(topic) ?? 0)
    this.#retained.set(topic, bytes)
  }

  async #removeRetained(packet: OpenPacket): Promise<void> {
    const { topic = '' } = packet
    this.#retainedBytes -= this.#retained.get(topic) ?? 0
    if (this.#retained.delete(topic)) this.#saved.remove(retainedKey(topic))
    await super.storeRetained({ ...packet, payload: Buffer.alloc(0) })
  }

  override async incomingStorePacket(client: OpenClient, packet: OpenPacket): Promise<void> {
    await super.incomingStorePacket(client, withKeptPayload(packet))
  }

  override async addSubscriptions(client: OpenClient, subs: OpenSubscription[]): Promise<void> {
    const granted = subs.filter((sub) => this.#options.isGranted(sub))
    if (granted.length === 0) return
    await super.addSubscriptions(client, granted)
    await this.#saveSubscriptions(client)
  }

  override async removeSubscriptions(client: OpenClient, topics: string[]): Promise<void> {
    await super.removeSubscriptions(client, topics)
    await this.#saveSubscriptions(client)
  }

  /** Called for a connect with a clean session: nothing of the old one may remain [MQTT-3.1.2-6]. */
  override async cleanSubscriptions(client: OpenClient): Promise<void> {
    this.#queues.clearAll(client.id)
    const { length } = await super.subscriptionsByClient(client)
    await super.cleanSubscriptions(client)
    this.#subscribed.delete(client.id)
    if (length > 0) this.#saved.remove(subscriptionsKey(client.id))
  }

  /** Changes that are not on disk yet. */
  get unsaved(): number {
    return this.#saved.size
  }

  /** True if anything is kept of this session. */
  holds(client: string): boolean {
    return this.#subscribed.has(client) || this.#queues.has(client)
  }

  async #saveSubscriptions(client: OpenClient): Promise<void> {
    const subs = await super.subscriptionsByClient(client)
    const key = subscriptionsKey(client.id)
    if (subs.length === 0) {
      this.#subscribed.delete(client.id)
      this.#saved.remove(key)
    } else {
      this.#subscribed.add(client.id)
      this.#saved.put(key, Buffer.from(JSON.stringify({ client: client.id, subs })))
    }
  }

  async outgoingEnqueue(sub: { clientId: string }, packet: OpenPacket): Promise<void> {
    this.#queues.enqueue(sub.clientId, withKeptPayload(packet))
  }

  async outgoingEnqueueCombi(subs: { clientId: string }[], packet: OpenPacket): Promise<void> {
    const kept = withKeptPayload(packet)
    for (const { clientId } of subs) this.#queues.enqueue(clientId, kept)
  }

  async outgoingUpdate(client: OpenClient, packet: OpenPacket): Promise<void> {
    this.#queues.update(client.id, packet)
  }

  /** Called by Aedes for every PUBACK and PUBCOMP, and for a packet that was not forwarded, which has no `messageId`. */
  async outgoingClearMessageId(client: OpenClient, packet: OpenPacket): Promise<OpenPacket | undefined> {
    if (packet.brokerId !== undefined && this.#options.isForwarded(client, packet)) return undefined
    if (packet.messageId === undefined) return this.#queues.clearPacket(client.id, packet)
    return this.#queues.clear(client.id, packet.messageId)
  }

  /** The packet id given last among those of the session that wait for an acknowledgement. */
  lastPacketId(client: OpenClient): number | undefined {
    return this.#queues.lastPacketId(client.id)
  }

  outgoingStream(client: OpenClient): Readable {
    return Readable.from(this.#queues.packets(client.id))
  }

  /** Resolves when everything is saved. */
  override async destroy(): Promise<void> {
    await this.#saved.close()
    await super.destroy()
  }
}
