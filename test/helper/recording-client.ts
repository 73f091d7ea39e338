/**
 * A lean MQTT client that does what a good client must, and keeps a record of it: sends are kept until PUBACK and sent again,
 * in their order, with the same id (or as DUP) after a reconnect; everything received is recorded with the connection that
 * brought it. It misbehaves on request: freezes, withholds PUBACKs, breaks off. checker.ts judges the records.
 */
import { randomBytes } from 'node:crypto'
import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { PacketReader } from '../../audit/packets.js'
import { type Address, conversationOf } from '../../broker/topics.js'
import type { Acknowledged, ConnectionRecord, Received, SendRecord } from './checker.js'
import * as packets from './packets.js'
import { tokenOf } from './server-process.js'

export interface RecordingOptions {
  user: string
  device: string
  clean: boolean
  transport: 'tcp' | 'ws'
  /** Asked at each connect, since a restarted server has other ports. */
  server: { readonly mqttPort: number; readonly httpPort: number }
}

interface Pipe {
  write(bytes: Buffer): void
  pause(): void
  resume(): void
  destroy(): void
}

interface Outgoing {
  record: SendRecord
  topic: string
  payload: string
  packetId: number
}

const unackedMax = 64
const reconnectMs = 20

let clock = 0
/** Orders the events of all clients of a process. */
export const tick = (): number => ++clock

export class RecordingClient {
  readonly sends: SendRecord[] = []
  readonly connections: ConnectionRecord[] = []
  readonly options: RecordingOptions
  /** PUBACKs of messages are kept back until it is false again. */
  isWithholding = false
  #isFrozen = false
  #wanted = false
  /** The loop that connects is running; it outlives a `stop` for a moment. */
  #isTrying = false
  #pipe: Pipe | undefined
  #current: ConnectionRecord | undefined
  #reader = new PacketReader()
  #nextPacketId = 0
  readonly #unacked = new Map<number, Outgoing>()
  readonly #waiting: Outgoing[] = []
  #withheld: { packetId: number; received: Received | undefined }[] = []
  readonly #byId = new Map<string, SendRecord>()

  constructor(options: RecordingOptions) {
    this.options = options
  }

  get name(): string {
    return `${this.options.user}/${this.options.device}`
  }

  /** Connected and past `ready`. */
  get isReady(): boolean {
    return this.#current?.readyAt !== undefined
  }

  get unsettled(): number {
    return this.#unacked.size + this.#waiting.length
  }

  /** Keeps a connection from now on, until `stop`. */
  start(): void {
    this.#wanted = true
    if (!this.#isTrying) void this.#keepConnected()
  }

  stop(): void {
    this.#wanted = false
    this.#pipe?.destroy()
  }

  /** Breaks the connection off; it comes back by itself. */
  reset(): void {
    this.#pipe?.destroy()
  }

  freeze(): void {
    this.#isFrozen = true
    this.#pipe?.pause()
  }

  /** Reads and acknowledges again. */
  heal(): void {
    this.isWithholding = false
    for (const { packetId, received } of this.#withheld.splice(0)) this.#acknowledge(packetId, received)
    this.#isFrozen = false
    this.#pipe?.resume()
  }

  /** A message with an id, or without one as plain text. `body` names the send for the checker and must be unique. */
  send(conv: Address, body: string, id: string | undefined): SendRecord {
    const { user, device } = this.options
    const record: SendRecord = {
      user,
      device,
      conv: conversationOf(conv, user) ?? '',
      id,
      body,
      sentAt: tick(),
      isPubacked: false,
      acks: [],
      refusals: [],
    }
    this.sends.push(record)
    if (id !== undefined) this.#byId.set(`${conv} ${id}`, record)
    const payload = id === undefined ? body : JSON.stringify({ id, body })
    this.#waiting.push({ record, topic: `${conv}/msg`, payload, packetId: 0 })
    this.#sendWaiting()
    return record
  }

  #sendWaiting(): void {
    while (this.#current?.connackAt !== undefined && this.#unacked.size < unackedMax) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      do this.#nextPacketId = (this.#nextPacketId % 65_535) + 1
      while (this.#unacked.has(this.#nextPacketId))
      next.packetId = this.#nextPacketId
      this.#unacked.set(next.packetId, next)
      this.#publish(next, false)
    }
  }

  #publish({ topic, payload, packetId }: Outgoing, dup: boolean): void {
    this.#pipe?.write(packets.publish({ topic, payload, qos: 1, packetId, dup }))
  }

  async #keepConnected(): Promise<void> {
    this.#isTrying = true
    while (this.#wanted) {
      await this.#connectOnce()
      if (this.#wanted) await delay(reconnectMs)
    }
    this.#isTrying = false
  }

  /** Resolves when the connection has ended, or could not be made. */
  async #connectOnce(): Promise<void> {
    const { user, device, clean, transport, server } = this.options
    const token = await tokenOf(user)
    const port = transport === 'ws' ? server.httpPort : server.mqttPort
    if (port === 0 || !this.#wanted) return
    this.#reader = new PacketReader()
    this.#withheld = []
    const connection: ConnectionRecord = {
      user,
      device,
      clean,
      connackAt: undefined,
      readyAt: undefined,
      closedAt: undefined,
      sessionPresent: false,
      ready: undefined,
      received: [],
    }
    await new Promise<void>((resolve) => {
      const open = transport === 'ws' ? openWebSocket : openTcp
      const pipe = open(port, {
        opened: () => pipe.write(packets.connect({ clientId: device, clean, username: user, password: token, keepaliveS: 0 })),
        data: (chunk) => this.#data(chunk, connection),
        closed: resolve,
      })
      this.#pipe = pipe
      this.#current = connection
      this.connections.push(connection)
    })
    connection.closedAt = tick()
    this.#pipe = undefined
    this.#current = undefined
    if (connection.connackAt === undefined) this.connections.splice(this.connections.indexOf(connection), 1)
  }

  #data(chunk: Buffer, connection: ConnectionRecord): void {
    if (connection !== this.#current) return
    this.#reader.push(chunk, (first, body) => this.#packet(first, body, connection))
  }

  #packet(first: number, body: Buffer, connection: ConnectionRecord): void {
    const type = first >> 4
    if (type === packets.packetType.connack) this.#connected(body, connection)
    else if (type === packets.packetType.puback) this.#pubacked(body.readUInt16BE(0))
    else if (type === packets.packetType.publish) this.#received(first, body, connection)
  }

  #connected(body: Buffer, connection: ConnectionRecord): void {
    if (body[1] !== 0) return this.reset()
    connection.connackAt = tick()
    connection.sessionPresent = body[0] === 1
    for (const outgoing of this.#unacked.values()) this.#publish(outgoing, true)
    this.#sendWaiting()
    if (this.#isFrozen) this.#pipe?.pause()
  }

  #pubacked(packetId: number): void {
    const outgoing = this.#unacked.get(packetId)
    if (outgoing === undefined) return
    outgoing.record.isPubacked = true
    this.#unacked.delete(packetId)
    this.#sendWaiting()
  }

  #received(first: number, body: Buffer, connection: ConnectionRecord): void {
    const topicEnd = 2 + body.readUInt16BE(0)
    const topic = body.toString('utf8', 2, topicEnd)
    const qos = (first >> 1) & 3
    const packetId = qos === 0 ? 0 : body.readUInt16BE(topicEnd)
    const raw = body.toString('utf8', topicEnd + (qos === 0 ? 0 : 2))
    const leaf = topic.slice(topic.lastIndexOf('/') + 1)
    let received: Received | undefined
    if (leaf === 'msg') {
      const { seq } = JSON.parse(raw) as { seq: number }
      received = { topic, conv: this.#conversationOf(topic, raw), seq, raw, at: tick(), isAcknowledged: false }
      connection.received.push(received)
    } else if (leaf === 'ack') this.#ack(raw)
    else if (leaf === 'event') this.#event(raw, connection)
    if (packetId === 0) return
    if (this.isWithholding) this.#withheld.push({ packetId, received })
    else this.#acknowledge(packetId, received)
  }

  #conversationOf(topic: string, raw: string): string {
    if (topic.startsWith('g/')) return topic.slice(0, topic.lastIndexOf('/'))
    const { from, to } = JSON.parse(raw) as { from: string; to: string }
    return conversationOf(`u/${from}`, to) ?? ''
  }

  #acknowledge(packetId: number, received: Received | undefined): void {
    if (received !== undefined) received.isAcknowledged = true
    this.#pipe?.write(packets.puback(packetId))
  }

  #ack(raw: string): void {
    const ack = JSON.parse(raw) as Acknowledged & { id: string; conv?: string; topic?: string; error?: { code: string } }
    const address = ack.conv ?? ack.topic?.slice(0, ack.topic.lastIndexOf('/'))
    const record = this.#byId.get(`${address} ${ack.id}`)
    if (record === undefined) return
    if (ack.error !== undefined) record.refusals.push(ack.error.code)
    else record.acks.push({ seq: ack.seq, ts: ack.ts, dup: ack.dup === true })
  }

  #event(raw: string, connection: ConnectionRecord): void {
    const event = JSON.parse(raw) as { type: string } & NonNullable<ConnectionRecord['ready']>
    if (event.type !== 'ready') return
    connection.readyAt = tick()
    connection.ready = event
  }
}

interface PipeEvents {
  opened(): void
  data(chunk: Buffer): void
  closed(): void
}

function openTcp(port: number, events: PipeEvents): Pipe {
  const socket: Socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  socket.on('connect', events.opened)
  socket.on('data', events.data)
  socket.on('error', () => socket.destroy())
  socket.on('close', events.closed)
  return {
    write: (bytes) => void (socket.destroyed || socket.write(bytes)),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    destroy: () => (socket.connecting ? socket.destroy() : socket.resetAndDestroy()),
  }
}

function openWebSocket(port: number, events: PipeEvents): Pipe {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/mqtt`, ['mqtt'], { perMessageDeflate: false })
  socket.on('open', events.opened)
  socket.on('message', (chunk) => events.data(chunk as Buffer))
  socket.on('error', () => socket.terminate())
  socket.on('close', events.closed)
  return {
    write: (bytes) => void (socket.readyState === WebSocket.OPEN && socket.send(bytes)),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    destroy: () => socket.terminate(),
  }
}

/** A prefix with which the ids and bodies of one run are unique. */
export const newRunName = (): string => randomBytes(4).toString('hex')
