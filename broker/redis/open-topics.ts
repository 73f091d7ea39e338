/**
 * The state of open topics in a cluster, in Redis: retained messages, subscriptions and queues of persistent sessions, QoS 2 packets
 * that are not released, wills. Every node has a mirror of the subscriptions, to know for whom a message is to be queued; it is
 * read anew whenever this node may have missed a change. While Redis is away every call rejects, so nothing is acknowledged.
 * aedes-persistence-redis is not used: docs/decisions/0008 says why.
 */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import MemoryPersistence from 'aedes-persistence/asyncPersistence.js'
import { InTurn } from '../in-turn.js'
import type { Logger } from '../logger.js'
import type { OpenPacket } from '../store/open-packet.js'
import type { OpenClient, OpenSubscription, OpenTopicsGuards, OpenTopicsState } from '../store/open-topics-persistence.js'
import type { RedisConnection } from './connect.js'
import { hashEntries } from './hash-entries.js'
import { keepSubscribed } from './keep-subscribed.js'
import { OpenQueues } from './open-queues.js'
import { OpenWills } from './open-wills.js'
import { Retained } from './retained.js'

export interface RedisOpenTopicsOptions extends OpenTopicsGuards {
  redis: RedisConnection
  /** For what other nodes change; in use by others too. */
  subscriber: RedisConnection
  prefix: string
  logger: Logger
  publishWill(client: string, packet: OpenPacket): Promise<void>
  willLifeMs?: number
  retainedMax?: number
  retainedBytesMax?: number
  /** Per session. */
  queuedPacketsMax?: number
}

const retainedMaxDefault = 100_000
const retainedBytesMaxDefault = 64 * 1024 * 1024
const queuedPacketsMaxDefault = 1_000
/** A QoS 2 packet that is not released for so long is forgotten. */
const unreleasedSeconds = 24 * 3600

/** The subscriptions of a client were changed by a node. */
interface Change {
  node: string
  client: string
}

/** Of what is no change nobody is the client. */
function parseChange(message: Buffer): Change {
  try {
    const { node, client } = Object(JSON.parse(message.toString())) as Partial<Change>
    return { node: String(node ?? ''), client: typeof client === 'string' ? client : '' }
  } catch (error) {
    if (error instanceof SyntaxError) return { node: '', client: '' }
    throw error
  }
}

const digests = new WeakMap<OpenPacket, string>()

/** Of what it was when it came: the adapter empties it. */
function digestOf(packet: OpenPacket): string {
  const hash = createHash('sha256')
    .update(`${packet.topic}\0`)
    .update(packet.payload ?? '')
  const digest = digests.get(packet) ?? hash.digest('base64')
  digests.set(packet, digest)
  return digest
}

export class RedisOpenTopics extends MemoryPersistence implements OpenTopicsState {
  readonly #options: RedisOpenTopicsOptions
  readonly #redis: RedisConnection
  readonly #queues: OpenQueues
  readonly #wills: OpenWills
  readonly #retained: Retained
  #hasRoom = true
  readonly #turns = new InTurn()
  /** Sessions with subscriptions, on any node. */
  readonly #subscribed = new Set<string>()
  /** Everything is in Redis when a call resolves. */
  readonly unsaved = 0
  #node = ''

  constructor(options: RedisOpenTopicsOptions) {
    super()
    const { redis, prefix, logger, publishWill: publish, willLifeMs: lifeMs } = options
    this.#options = options
    this.#redis = redis
    this.#queues = new OpenQueues(redis, `${prefix}open:`, options.queuedPacketsMax ?? queuedPacketsMaxDefault)
    const { retainedMax: messagesMax = retainedMaxDefault, retainedBytesMax: bytesMax = retainedBytesMaxDefault } = options
    this.#retained = new Retained(redis, this.#key('retained'), { messagesMax, bytesMax })
    this.#wills = new OpenWills({ redis, prefix: `${prefix}open:`, logger, publish, ...(lifeMs !== undefined && { lifeMs }) })
  }

  #key(name: string): string {
    return `${this.#options.prefix}open:${name}`
  }

  /** Listens before it reads, so that no change falls between. Aedes insists on a function that is declared async. */
  override async setup(broker: object): Promise<void> {
    await super.setup(broker)
    this.#node = (broker as { id: string }).id
    const { subscriber } = this.#options
    const changes = this.#key('changes')
    subscriber.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      if (channel.toString() === changes) this.#heard(parseChange(message))
    })
    await keepSubscribed(subscriber, changes, () => this.#quietly(this.#readAll()))
    await this.#readAll()
    await this.#wills.start(this.#node)
  }

  #heard({ node, client }: Change): void {
    if (client !== '' && node !== this.#node)
      this.#quietly(this.#turns.run([client], async () => this.#mirror(client, await this.#stored(client))))
  }

  /** The reconnect that follows a fault reads everything again. */
  #quietly(work: Promise<unknown>): void {
    work.catch((error: Error) => this.#options.logger.debug({ fault: error.message }, 'subscriptions of application topics'))
  }

  async #readAll(): Promise<void> {
    const gone = new Set(this.#subscribed)
    for await (const { field: client, value } of hashEntries(this.#redis, this.#key('subscriptions'))) {
      gone.delete(client)
      const subs = JSON.parse(value.toString()) as OpenSubscription[]
      await this.#turns.run([client], () => this.#mirror(client, subs))
    }
    for (const client of gone) await this.#turns.run([client], async () => this.#mirror(client, await this.#stored(client)))
  }

  async #mirror(client: string, subs: readonly OpenSubscription[]): Promise<void> {
    await super.cleanSubscriptions({ id: client })
    this.#subscribed.delete(client)
    if (subs.length === 0) return
    await super.addSubscriptions({ id: client }, [...subs])
    this.#subscribed.add(client)
  }

  async #stored(client: string): Promise<OpenSubscription[]> {
    const text = await this.#redis.hget(this.#key('subscriptions'), client)
    return text === null ? [] : (JSON.parse(text) as OpenSubscription[])
  }

  /** `change` gives the new list. */
  #change(client: string, change: (subs: OpenSubscription[]) => OpenSubscription[]): Promise<void> {
    return this.#turns.run([client], async () => {
      const before = await this.#stored(client)
      const after = change(before)
      if (JSON.stringify(before) === JSON.stringify(after)) return this.#mirror(client, after)
      if (after.length > 0) await this.#redis.hset(this.#key('subscriptions'), client, JSON.stringify(after))
      else {
        await this.#redis.hdel(this.#key('subscriptions'), client)
        await this.#queues.clearAll(client)
      }
      await this.#mirror(client, after)
      await this.#redis.publish(this.#key('changes'), JSON.stringify({ node: this.#node, client }))
    })
  }

  /** Aedes calls it once for each granted item, with all items. */
  override async addSubscriptions(client: OpenClient, subs: OpenSubscription[]): Promise<void> {
    const granted = subs.filter((sub) => this.#options.isGranted(sub)).map(({ topic, qos }) => ({ topic, qos }))
    const topics = new Set(granted.map(({ topic }) => topic))
    await this.#change(client.id, (before) => [...before.filter(({ topic }) => !topics.has(topic)), ...granted])
  }

  override async removeSubscriptions(client: OpenClient, topics: string[]): Promise<void> {
    await this.#change(client.id, (before) => before.filter(({ topic }) => !topics.includes(topic)))
  }

  override async subscriptionsByClient(client: OpenClient): Promise<OpenSubscription[]> {
    return this.#stored(client.id)
  }

  /** Called for a connect with a clean session: nothing of the old one may remain [MQTT-3.1.2-6]. */
  override async cleanSubscriptions(client: OpenClient): Promise<void> {
    await this.#change(client.id, () => [])
    await this.#queues.clearAll(client.id)
  }

  holds(client: string): boolean {
    return this.#subscribed.has(client)
  }

  /** What has no room is not retained [MQTT-3.3.1.3: the server may discard]. */
  override async storeRetained(packet: OpenPacket): Promise<void> {
    const hadRoom = this.#hasRoom
    this.#hasRoom = await this.#retained.put(packet)
    if (hadRoom && !this.#hasRoom) this.#options.logger.warn({ topic: packet.topic }, 'no room for more retained messages')
  }

  override createRetainedStream(pattern: string): Readable {
    return this.createRetainedStreamCombi([pattern])
  }

  override createRetainedStreamCombi(patterns: string[]): Readable {
    return Readable.from(this.#retained.find(patterns))
  }

  outgoingEnqueue(sub: { clientId: string }, packet: OpenPacket): Promise<void> {
    return this.#queues.enqueue(sub.clientId, packet)
  }

  async outgoingEnqueueCombi(subs: { clientId: string }[], packet: OpenPacket): Promise<void> {
    await Promise.all([...new Set(subs.map(({ clientId }) => clientId))].map((client) => this.#queues.enqueue(client, packet)))
  }

  outgoingUpdate(client: OpenClient, packet: OpenPacket): Promise<void> {
    return this.#queues.update(client, packet)
  }

  /** Called by Aedes for every PUBACK and PUBCOMP, and for a packet that was not forwarded, which has no `messageId`. */
  async outgoingClearMessageId(client: OpenClient, packet: OpenPacket): Promise<undefined> {
    if (packet.brokerId !== undefined && this.#options.isForwarded(client, packet)) return undefined
    await this.#queues.clear(client, packet)
    return undefined
  }

  lastPacketId(client: OpenClient): Promise<number | undefined> {
    return this.#queues.lastPacketId(client.id)
  }

  outgoingStream(client: OpenClient & { clean?: boolean }): Readable {
    return Readable.from(client.clean ? [] : this.#queued(client.id))
  }

  async *#queued(client: string): AsyncGenerator<OpenPacket> {
    yield* await this.#queues.packets(client)
  }

  override async incomingStorePacket(client: OpenClient, packet: OpenPacket): Promise<void> {
    const key = this.#key(`incoming:${client.id}`)
    await this.#redis.hset(key, String(packet.messageId), digestOf(packet))
    await this.#redis.expire(key, unreleasedSeconds)
  }

  /** Rejects when it is not there. A PUBREL asks by id alone; a PUBLISH of the same id and other content is another one. */
  override async incomingGetPacket(client: OpenClient, packet: OpenPacket): Promise<OpenPacket> {
    const digest = await this.#redis.hget(this.#key(`incoming:${client.id}`), String(packet.messageId))
    if (digest === null || (packet.topic !== undefined && digest !== digestOf(packet))) throw new Error('no such packet')
    return packet
  }

  override async incomingDelPacket(client: OpenClient, packet: OpenPacket): Promise<void> {
    await this.#redis.hdel(this.#key(`incoming:${client.id}`), String(packet.messageId))
  }

  override async cleanIncoming(client: OpenClient): Promise<void> {
    await this.#redis.del(this.#key(`incoming:${client.id}`))
  }

  override async putWill(client: OpenClient, packet: OpenPacket): Promise<void> {
    await this.#wills.put(client.id, packet)
  }

  override async getWill(): Promise<undefined> {
    return undefined
  }

  /** At a connect it names no node: then no will of this client may remain anywhere. */
  override async delWill(client: OpenClient & { brokerId?: string }): Promise<undefined> {
    await (client.brokerId === undefined ? this.#wills.removeAll(client.id) : this.#wills.remove(client.id))
    return undefined
  }

  takeWill(clientId: string): Promise<boolean> {
    return this.#wills.take(clientId)
  }

  /** Aedes' own way publishes a will once for every survivor. */
  override streamWill(): Readable {
    return Readable.from([])
  }

  /** The connections are their owner's to close. */
  override async destroy(): Promise<void> {
    await this.#wills.stop().catch((error: Error) => this.#options.logger.debug({ fault: error.message }, 'wills'))
    await super.destroy()
  }
}
