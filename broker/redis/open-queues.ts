/**
 * The queues of persistent sessions for open topics, in Redis: one hash for each session, a field for each packet, so that a session
 * goes on at any node, every packet keeps the id of its own receiver, and nothing remains when the session ends. Oldest
 * first; a full queue loses its oldest packets.
 */
import { decodePacket, encodePacket, type OpenPacket } from '../store/open-packet.js'
import type { RedisConnection } from './connect.js'
import { hashEntries } from './hash-entries.js'

/** On its connection; what is remembered of it goes with the connection. */
interface Receiver {
  id: string
}

interface Waiting {
  field: string
  ts: number
  packet: OpenPacket
}

const tsBytes = 8

const fieldOf = ({ brokerId, brokerCounter }: OpenPacket): string => `${brokerId}:${brokerCounter}`

function encode(packet: OpenPacket): Buffer {
  const ts = Buffer.alloc(tsBytes)
  ts.writeDoubleBE(Date.now())
  return Buffer.concat([ts, encodePacket(packet)])
}

export class OpenQueues {
  readonly #redis: RedisConnection
  readonly #prefix: string
  readonly #packetsMax: number
  /** Fields of the packets that a connection was sent, by packet id: at most as many as there are ids. */
  readonly #sent = new WeakMap<Receiver, Map<number, string>>()

  constructor(redis: RedisConnection, prefix: string, packetsMax: number) {
    this.#redis = redis
    this.#prefix = prefix
    this.#packetsMax = packetsMax
  }

  #key(client: string): string {
    return `${this.#prefix}queue:${client}`
  }

  async enqueue(client: string, packet: OpenPacket): Promise<void> {
    const key = this.#key(client)
    const [, length] = await Promise.all([this.#redis.hset(key, fieldOf(packet), encode(packet)), this.#redis.hlen(key)])
    if (length <= this.#packetsMax) return
    // A tenth at once, so that a full queue is not read for every packet.
    const oldest = (await this.#read(client)).slice(0, length - Math.floor(this.#packetsMax * 0.9))
    await this.#redis.hdel(key, ...oldest.map(({ field }) => field))
  }

  async #read(client: string): Promise<Waiting[]> {
    const waiting: Waiting[] = []
    for await (const { field, value } of hashEntries(this.#redis, this.#key(client))) {
      waiting.push({ field, ts: value.readDoubleBE(0), packet: decodePacket(value.subarray(tsBytes)).packet })
    }
    const counter = ({ packet }: Waiting): number => packet.brokerCounter ?? 0
    return waiting.sort((a, b) => a.ts - b.ts || counter(a) - counter(b))
  }

  /** Gives a packet its id, or puts the PUBREL in its place. */
  async update(client: Receiver, packet: OpenPacket): Promise<void> {
    const { messageId = 0 } = packet
    const sent = this.#sent.get(client) ?? new Map<number, string>()
    this.#sent.set(client, sent)
    const field = packet.brokerId === undefined ? sent.get(messageId) : fieldOf(packet)
    if (field === undefined) throw new Error('no such packet')
    sent.set(messageId, field)
    const [, brokerId = '', counter = ''] = /^(.*):(\d+)$/.exec(field) ?? []
    await this.#redis.hset(this.#key(client.id), field, encode({ ...packet, brokerId, brokerCounter: Number(counter) }))
  }

  /** It was acknowledged, or not sent at all. */
  async clear(client: Receiver, packet: OpenPacket): Promise<void> {
    const sent = this.#sent.get(client)
    const field = packet.messageId === undefined ? fieldOf(packet) : sent?.get(packet.messageId)
    if (field === undefined) return
    if (packet.messageId !== undefined) sent?.delete(packet.messageId)
    await this.#redis.hdel(this.#key(client.id), field)
  }

  /** What is to be sent on reconnect; DUP is set on what was sent before [MQTT-3.3.1-1]. */
  async packets(client: string): Promise<OpenPacket[]> {
    const waiting = await this.#read(client)
    return waiting.map(({ packet }) => (packet.cmd === 'publish' ? { ...packet, dup: packet.messageId !== undefined } : packet))
  }

  /** The packet id given last among those that wait for an acknowledgement. */
  async lastPacketId(client: string): Promise<number | undefined> {
    return (await this.#read(client)).findLast(({ packet }) => packet.messageId !== undefined)?.packet.messageId
  }

  async clearAll(client: string): Promise<void> {
    await this.#redis.del(this.#key(client))
  }
}
