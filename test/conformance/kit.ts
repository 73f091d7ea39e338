/**
 * What a conformance case works with: clients that are closed at its end, topics of its own, sessions and retained
 * messages that are removed again, and a fence that tells when "nothing more comes" without sleeping.
 */
import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { ConnectFields } from '../helper/packets.js'
import { connectRaw, type LinkOptions, type Message, type Packet, RawClient } from '../helper/raw-client.js'

/** The broker under test. Anonymous clients may do everything except subscribe to `test/nosubscribe`. */
export interface BrokerUnderTest {
  label: string
  port: number
  /** Port of MQTT over WebSocket, path /mqtt; without it only TCP is tested. */
  wsPort?: number
  /** It speaks MQTT 3.1, too. */
  speaks31?: true
}

/** How the clients of a case connect, unless the case says otherwise. */
export type KitOptions = LinkOptions & Pick<ConnectFields, 'protocolName' | 'level'>

export interface Case {
  name: string
  /** Statements of the OASIS text that the case is about. */
  spec: string
  /** Run over WebSocket, too. */
  ws?: true
  run(t: Test, kit: Kit): Promise<void>
}

export const isMessage = (packet: Packet): packet is Message => packet.cmd === 'publish'

/** `topic payload qos retain` of each message: short to compare. */
export const brief = (message: Message): string =>
  `${message.topic} ${message.payload.toString()} q${message.qos}${message.retain ? ' retained' : ''}`

let casesRun = 0

export class Kit {
  readonly #link: KitOptions
  readonly #prefix = `conf${randomBytes(3).toString('hex')}${casesRun++}`
  readonly #clients: RawClient[] = []
  readonly #sessions = new Set<string>()
  readonly #retained = new Set<string>()
  #counter = 0

  constructor(t: Test, link: KitOptions) {
    this.#link = link
    t.teardown(() => this.#cleanUp())
  }

  /** A topic that no other case uses. */
  topic(name: string): string {
    return `${this.#prefix}/${name}`
  }

  clientId(name = 'c'): string {
    return `${name}${this.#prefix}${this.#counter++}`
  }

  /** A connection without CONNECT. */
  async open(): Promise<RawClient> {
    const client = await RawClient.open(this.#link)
    this.#clients.push(client)
    return client
  }

  async connect(fields: ConnectFields & { autoAck?: boolean } = {}): Promise<RawClient> {
    const clientId = fields.clientId ?? this.clientId()
    if (fields.clean === false) this.#sessions.add(clientId.toString())
    const client = await connectRaw({ ...this.#link, ...fields, clientId })
    this.#clients.push(client)
    return client
  }

  /** Publishes retained; the case's end clears it. */
  async retain(client: RawClient, topic: string, payload: string, qos: 0 | 1 | 2): Promise<void> {
    this.#retained.add(topic)
    await client.publish(topic, payload, { qos, retain: true })
    if (qos === 0) await client.ping()
  }

  willBeRetained(topic: string): void {
    this.#retained.add(topic)
  }

  /** Resolves when what `publisher` has published before has reached `subscriber` if it is to reach it at all. */
  async fence(publisher: RawClient, subscriber: RawClient): Promise<void> {
    const topic = `${this.#prefix}fence/${this.#counter++}`
    await subscriber.subscribe([topic, 0])
    await publisher.ping()
    await publisher.publish(topic, 'fence')
    await subscriber.message(topic)
    await subscriber.ping()
    await subscriber.unsubscribe(topic)
  }

  /** All messages that came to `subscriber` up to the fence, in order, without the fence; each is told once. */
  async messages(publisher: RawClient, subscriber: RawClient): Promise<Message[]> {
    await this.fence(publisher, subscriber)
    const messages = subscriber.inbox.filter(isMessage)
    subscriber.inbox.length = 0
    return messages.filter((message) => !message.topic.startsWith(`${this.#prefix}fence/`))
  }

  async #cleanUp(): Promise<void> {
    for (const client of this.#clients) client.reset()
    await Promise.all(this.#clients.map((client) => client.closed))
    for (const clientId of this.#sessions) {
      const client = await connectRaw({ ...this.#link, clientId, clean: true })
      await client.disconnect()
    }
    if (this.#retained.size === 0) return
    const client = await connectRaw({ ...this.#link, clientId: this.clientId('clean') })
    for (const topic of this.#retained) await client.publish(topic, '', { qos: 1, retain: true })
    await client.disconnect()
  }
}
