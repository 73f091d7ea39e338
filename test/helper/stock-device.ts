/**
 * A device whose app was written with mqtt.js and knows nothing of Parley but its topics: it keeps a persistent session, comes back by
 * itself, and leaves it to the library to send again what was not acknowledged. It writes down what it sent and got, for checker.ts.
 */
import mqtt, { type MqttClient, type Packet } from 'mqtt'
import { type Address, conversationOf } from '../../broker/topics.js'
import type { Acknowledged, ConnectionRecord, Received, SendRecord } from './checker.js'
import { tick } from './recording-client.js'
import { tokenOf } from './server-process.js'

type Ack = Acknowledged & { id: string; conv?: string; topic?: string; error?: { code: string } }

const reconnectMs = 50

export class StockDevice {
  readonly sends: SendRecord[] = []
  readonly connections: ConnectionRecord[] = []
  unsettled = 0
  #client: MqttClient | undefined
  #current: ConnectionRecord | undefined
  readonly #byId = new Map<string, SendRecord>()

  constructor(
    readonly user: string,
    readonly device: string,
    readonly at: { readonly mqttPort: number },
    /** It notices within 1.5 times as long that nothing comes any more, and waits for CONNACK three times as long. */
    readonly keepaliveS = 60,
  ) {}

  get name(): string {
    return `${this.user}/${this.device}`
  }

  /** Connected and past `ready`. */
  get isReady(): boolean {
    return this.#current?.readyAt !== undefined
  }

  get isConnected(): boolean {
    return this.#client?.connected === true
  }

  /** Connects, and keeps a connection until `stops`; with `once` it does not come back. */
  async starts(returns: 'always' | 'once' = 'always'): Promise<void> {
    this.#client = mqtt.connect(`mqtt://127.0.0.1:${this.at.mqttPort}`, {
      protocolVersion: 4,
      clientId: this.device,
      username: this.user,
      password: await tokenOf(this.user),
      clean: false,
      keepalive: this.keepaliveS,
      connectTimeout: 3_000 * this.keepaliveS,
      reconnectPeriod: returns === 'always' ? reconnectMs : 0,
    })
    this.#client.on('packetreceive', (packet) => this.#took(packet))
    this.#client.on('error', () => undefined) // 'close' follows, and then it comes back
    this.#client.on('close', () => {
      if (this.#current !== undefined) this.#current.closedAt = tick()
      this.#current = undefined
    })
  }

  async stops(): Promise<void> {
    await this.#client?.endAsync(true)
  }

  /** `body` is also the id, and must be unique. */
  says(conv: Address, body: string): void {
    const { user, device } = this
    const record: SendRecord = {
      ...{ user, device, conv: conversationOf(conv, user) ?? '', id: body, body, sentAt: tick() },
      ...{ isPubacked: false, acks: [], refusals: [] },
    }
    this.sends.push(record)
    this.#byId.set(`${conv} ${body}`, record)
    this.unsettled++
    this.#publish(record, `${conv}/msg`)
  }

  /** What the library gives up, as it does with what was published while it sent older messages again, is the app's to repeat. */
  #publish(record: SendRecord, topic: string): void {
    this.#client?.publish(topic, JSON.stringify({ id: record.id, body: record.body }), { qos: 1 }, (error) => {
      if (error) return this.#publish(record, topic)
      record.isPubacked = true
      this.unsettled--
    })
  }

  #took(packet: Packet): void {
    if (packet.cmd === 'connack') this.#connected(packet.returnCode === 0, packet.sessionPresent)
    else if (packet.cmd === 'publish') this.#received(packet.topic, packet.payload.toString())
  }

  #connected(isAccepted: boolean, sessionPresent: boolean): void {
    if (!isAccepted) return
    const { user, device } = this
    this.#current = {
      ...{ user, device, clean: false, connackAt: tick(), readyAt: undefined, closedAt: undefined },
      ...{ sessionPresent, ready: undefined, received: [] },
    }
    this.connections.push(this.#current)
  }

  #received(topic: string, raw: string): void {
    const body = JSON.parse(raw) as Record<string, unknown>
    const leaf = topic.slice(topic.lastIndexOf('/') + 1)
    if (leaf === 'msg') this.#current?.received.push(this.#message(topic, raw, body as { seq: number; from: string; to: string }))
    else if (leaf === 'ack') this.#ack(body as unknown as Ack)
    else if (body.type === 'ready' && this.#current !== undefined)
      Object.assign(this.#current, { readyAt: tick(), ready: body as unknown as ConnectionRecord['ready'] })
  }

  /** The library sends PUBACK when its listeners have had it. */
  #message(topic: string, raw: string, { seq, from, to }: { seq: number; from: string; to: string }): Received {
    const conv = topic.startsWith('g/') ? topic.slice(0, topic.lastIndexOf('/')) : (conversationOf(`u/${from}`, to) ?? '')
    return { topic, conv, seq, raw, at: tick(), isAcknowledged: true }
  }

  #ack({ id, conv, topic, error, seq, ts, dup }: Ack): void {
    const record = this.#byId.get(`${conv ?? topic?.slice(0, topic.lastIndexOf('/'))} ${id}`)
    if (error !== undefined) record?.refusals.push(error.code)
    else record?.acks.push({ seq, ts, dup: dup === true })
  }
}
