/**
 * A virtual user's device. It does what a good client must: keeps a connection, keeps sends until PUBACK and sends them again
 * in their order, with the same id (or as DUP) after a reconnect, and acknowledges what it receives. It misbehaves on
 * request, and records all that it does and sees. Never throws for what the server does.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Address, addressOf, type ConversationId, conversationOf } from '../broker/topics.js'
import type { Act, EventOf } from './history.js'
import { type Connection, directOf, newConnection, seqOf } from './link.js'
import * as packets from './packets.js'
import { openPipe, type Transport } from './pipe.js'
import type { Random } from './random.js'
import { addToRuns, type Recorder } from './recorder.js'
import { recordSignal, recordWatch } from './signals.js'

export interface ClientWorld {
  recorder: Recorder
  random: Random
  /** Where clients connect: the proxy. */
  ports: { mqttPort: number; httpPort: number }
  token(user: string, lifeSeconds: number): Promise<string>
  /** The connection from this port was cut off without either end being told. */
  wasSilent(localPort: number): boolean
}

export interface ClientOptions {
  user: string
  device: string
  clean: boolean
  transport: Transport
  keepaliveSeconds: number
  /** Of each token it connects with. */
  tokenSeconds: number
  /** Filters to subscribe to; a Parley needs none for messages. */
  filters: readonly string[]
}

interface Outgoing {
  number: number
  topic: string
  payload: string
  packetId: number
  hasId: boolean
}

/** A message that can be spoken of. */
interface Place {
  conv: ConversationId
  seq: number
}

const inFlightMax = 64
const recentMax = 8
const connackMsMax = 10_000
const reconnectMsMin = 30
const reconnectMsMax = 600
/** Ids from here on are for repeats, whose PUBACK nobody waits for, and for SUBSCRIBE. */
const otherIdMin = 60_000
const msg = Buffer.from('msg')

export class VirtualClient {
  readonly options: ClientOptions
  /** PUBACKs of what it receives are kept back while it is true. */
  isWithholding = false
  /** Connections that have ended because the token did. */
  expiries = 0
  readonly #world: ClientWorld
  readonly #number: number
  #isWanted = false
  /** The loop that connects is running; it outlives a `stop` for a moment. */
  #isTrying = false
  #isFrozen = false
  #connection: Connection | undefined
  #attempts = 0
  #packetId = 0
  #otherId = otherIdMin
  #pings: NodeJS.Timeout | undefined
  readonly #inFlight = new Map<number, Outgoing>()
  readonly #waiting: Outgoing[] = []
  /** The last ones that went out, answered or not. */
  readonly #recent: Outgoing[] = []
  /** Sends with an id that have no ack yet. */
  readonly #unanswered = new Map<string, number>()
  /** Read positions without PUBACK on this connection, by packet id. */
  readonly #positions = new Map<number, number>()
  /** The last message of somebody else, and the last own one. */
  #heard: Place | undefined
  #said: Place | undefined

  constructor(options: ClientOptions, world: ClientWorld) {
    this.options = options
    this.#world = world
    const { recorder } = world
    this.#number = recorder.nextClient()
    const { user, device, clean, transport } = options
    recorder.write({ event: 'client', client: this.#number, user, device, clean, transport })
  }

  get name(): string {
    return `${this.options.user}/${this.options.device}`
  }

  get isUp(): boolean {
    return this.#connection?.isUp === true
  }

  get isReady(): boolean {
    return this.#connection?.isReady === true
  }

  get unsettled(): number {
    return this.#inFlight.size + this.#waiting.length
  }

  get localPort(): number {
    return this.#connection?.pipe.localPort ?? 0
  }

  /** Keeps a connection from now on, until `stop`. */
  start(): void {
    this.#isWanted = true
    if (!this.#isTrying) void this.#keepConnected()
  }

  stop(): void {
    this.#isWanted = false
    this.reset()
  }

  /** Breaks the connection off; it comes back by itself. */
  reset(): void {
    if (this.#connection === undefined) return
    this.#connection.isBroken = true
    this.#connection.pipe.destroy()
  }

  freeze(): void {
    this.#isFrozen = true
    this.#connection?.pipe.pause()
  }

  /** Reads and acknowledges again. */
  heal(): void {
    this.isWithholding = false
    this.#isFrozen = false
    const connection = this.#connection
    if (connection === undefined || connection.isBroken) return
    for (const { packetId, message } of connection.withheld.splice(0)) this.#acknowledge(connection, packetId, message)
    connection.pipe.resume()
  }

  /** Sends a text message; with `id` as JSON, otherwise as plain text. `bytes` dots follow the name. */
  send(address: Address, name: string, id: string | undefined, bytes: number): void {
    const body = `${name} ${'.'.repeat(bytes)}`
    this.offer(address, id === undefined ? body : JSON.stringify({ id, body }), { id: id ?? null, name, bytes })
  }

  /** Recalls, edits or reacts to the last message of somebody else or the last own one; false when there is none yet. */
  act(type: Act['type'], whose: 'own' | 'others', id: string): boolean {
    const place = whose === 'own' ? this.#said : this.#heard
    if (place === undefined) return false
    const { conv, seq } = place
    const more = { recall: {}, edit: { body: `${id} edited` }, reaction: { emoji: '👍', on: true } }[type]
    const payload = JSON.stringify({ id, type, body: { seq, ...more } })
    this.offer(addressOf(conv, this.options.user), payload, { id, name: id, bytes: 0, act: { type, seq } })
    return true
  }

  /** Sends what stands in the payload, as soon as it can. */
  offer(address: Address, payload: string, what: Pick<EventOf<'send'>, 'id' | 'name' | 'bytes' | 'act' | 'file'>): void {
    const { recorder } = this.#world
    const conv = conversationOf(address, this.options.user)
    if (conv === undefined) throw new Error(`${address} is not an address`)
    const number = recorder.nextSend()
    recorder.write({ event: 'send', send: number, client: this.#number, conv, ...what, at: recorder.tick() })
    if (what.id !== null) this.#unanswered.set(`${address} ${what.id}`, number)
    this.#waiting.push({ number, topic: `${address}/msg`, payload, packetId: 0, hasId: what.id !== null })
    this.#sendWaiting()
  }

  /** Says that the last message of somebody else has been read. */
  read(): void {
    if (!this.isUp || this.#heard === undefined) return
    const { recorder } = this.#world
    const { conv, seq } = this.#heard
    const [position, packetId] = [recorder.nextPosition(), this.#nextOtherId()]
    recorder.write({ event: 'position', position, client: this.#number, conv, seq, at: recorder.tick() })
    this.#positions.set(packetId, position)
    const topic = `${addressOf(conv, this.options.user)}/read`
    this.#connection?.pipe.write(packets.publish({ topic, payload: JSON.stringify({ seq }), qos: 1, packetId, dup: false }))
  }

  type(address: Address): void {
    const conv = conversationOf(address, this.options.user)
    if (!this.isUp || conv === undefined) return
    const { recorder } = this.#world
    recorder.write({ event: 'typed', client: this.#number, conv, at: recorder.tick() })
    this.#connection?.pipe.write(packets.publish({ topic: `${address}/typing`, payload: '', qos: 0, packetId: 0, dup: false }))
  }

  /** Sends the last messages a second time: with an id under packet ids of their own, without one as retransmissions while they are in flight. */
  repeat(count: number): void {
    if (!this.isUp) return // Nothing may overtake what is sent again after CONNACK.
    for (const outgoing of this.#recent.slice(-count)) {
      if (outgoing.hasId) this.#publish({ ...outgoing, packetId: this.#nextOtherId() }, false)
      else if (this.#inFlight.get(outgoing.packetId) === outgoing) this.#publish(outgoing, true)
    }
  }

  #nextOtherId(): number {
    this.#otherId = this.#otherId >= 65_535 ? otherIdMin : this.#otherId + 1
    return this.#otherId
  }

  #sendWaiting(): void {
    while (this.isUp && this.#inFlight.size < inFlightMax) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      do this.#packetId = (this.#packetId % (otherIdMin - 1)) + 1
      while (this.#inFlight.has(this.#packetId))
      next.packetId = this.#packetId
      this.#inFlight.set(next.packetId, next)
      this.#recent.push(next)
      if (this.#recent.length > recentMax) this.#recent.shift()
      this.#publish(next, false)
    }
  }

  #publish({ topic, payload, packetId }: Outgoing, dup: boolean): void {
    this.#connection?.pipe.write(packets.publish({ topic, payload, qos: 1, packetId, dup }))
  }

  async #keepConnected(): Promise<void> {
    let waitMs = reconnectMsMin
    this.#isTrying = true
    while (this.#isWanted) {
      const wasUp = await this.#connectOnce()
      waitMs = wasUp ? reconnectMsMin : Math.min(waitMs * 2, reconnectMsMax)
      if (this.#isWanted) await delay(waitMs + this.#world.random(waitMs))
    }
    this.#isTrying = false
  }

  /** Resolves when the connection has ended or could not be made; true if there was a CONNACK. */
  async #connectOnce(): Promise<boolean> {
    const { user, device, clean, transport, keepaliveSeconds, tokenSeconds } = this.options
    const { ports, token } = this.#world
    const password = await token(user, tokenSeconds)
    if (!this.#isWanted) return false
    const expiresMs = this.#world.recorder.ms + tokenSeconds * 1_000
    this.#attempts++
    const closed = new Promise<Connection>((resolve) => {
      const pipe = openPipe(transport, ports, {
        opened: () => pipe.write(packets.connect({ clientId: device, clean, username: user, password, keepaliveSeconds })),
        data: (chunk) => this.#data(connection, chunk, expiresMs),
        closed: () => resolve(connection),
      })
      const connection = newConnection(pipe)
      this.#connection = connection
    })
    const timer = setTimeout(() => {
      if (!this.isUp) this.reset()
    }, connackMsMax)
    const ended = await closed
    clearTimeout(timer)
    clearInterval(this.#pings)
    if (ended.isUp) {
      if (this.#world.recorder.ms >= expiresMs) this.expiries++
      this.#writeDown(ended, false)
    }
    this.#connection = undefined
    return ended.isUp
  }

  /** Everything has settled: writes down what the present connection has brought, as still open. */
  writeDownOpen(): void {
    const connection = this.#connection
    if (connection?.isUp !== true) return
    this.#writeDown(connection, true)
    connection.isUp = false
  }

  #writeDown({ number, pipe, before, after, withheld }: Connection, isOpen: boolean): void {
    const { recorder, wasSilent } = this.#world
    const unacked = withheld.flatMap(({ message }) => (message === undefined ? [] : [message]))
    const when = { at: recorder.tick(), ms: recorder.ms }
    recorder.write({ event: 'down', connection: number, ...when, isOpen, isSilent: wasSilent(pipe.localPort), before, after, unacked })
  }

  #data(connection: Connection, chunk: Buffer, expiresMs: number): void {
    try {
      connection.reader.push(chunk, (first, body) => this.#packet(connection, first, body, expiresMs))
    } catch (error) {
      const text = `${this.name} cannot read what the server sent: ${(error as Error).message}`
      this.#world.recorder.write({ event: 'logged', node: this.name, level: 'error', text })
      connection.pipe.destroy()
    }
  }

  #packet(connection: Connection, first: number, body: Buffer, expiresMs: number): void {
    const type = first >> 4
    if (type === packets.packetType.connack) this.#connected(connection, body, expiresMs)
    else if (!connection.isUp) return
    else if (type === packets.packetType.publish) this.#received(connection, first, body)
    else if (type === packets.packetType.puback) this.#pubacked(body.readUInt16BE(0))
  }

  #connected(connection: Connection, body: Buffer, expiresMs: number): void {
    if (body[1] !== 0) return connection.pipe.destroy()
    const { recorder } = this.#world
    const { filters, keepaliveSeconds } = this.options
    connection.isUp = true
    this.#positions.clear()
    connection.number = recorder.nextConnection()
    const when = { at: recorder.tick(), ms: recorder.ms }
    recorder.write({
      ...{ event: 'up', connection: connection.number, client: this.#number, ...when },
      ...{ attempt: this.#attempts, present: body[0] === 1, expiresMs },
    })
    recordWatch(recorder, connection, filters)
    if (filters.length > 0) connection.pipe.write(packets.subscribe(this.#nextOtherId(), filters, 1))
    for (const outgoing of this.#inFlight.values()) this.#publish(outgoing, true)
    this.#sendWaiting()
    if (keepaliveSeconds > 0) this.#pings = setInterval(() => connection.pipe.write(packets.pingreq), keepaliveSeconds * 700)
    if (this.#isFrozen) connection.pipe.pause()
  }

  #pubacked(packetId: number): void {
    const { recorder } = this.#world
    const position = this.#positions.get(packetId)
    if (position !== undefined && this.#positions.delete(packetId)) return recorder.write({ event: 'positioned', position })
    const outgoing = this.#inFlight.get(packetId)
    if (outgoing === undefined) return
    recorder.acked++
    recorder.write({ event: 'puback', send: outgoing.number, ms: recorder.ms })
    this.#inFlight.delete(packetId)
    this.#sendWaiting()
  }

  #received(connection: Connection, first: number, body: Buffer): void {
    const topicEnd = 2 + body.readUInt16BE(0)
    const qos = (first >> 1) & 3
    const packetId = qos === 0 ? 0 : body.readUInt16BE(topicEnd)
    const payload = body.subarray(topicEnd + (qos === 0 ? 0 : 2))
    let message: [ConversationId, number] | undefined
    if (body.compare(msg, 0, 3, topicEnd - 3, topicEnd) === 0)
      message = this.#message(connection, body.toString('latin1', 2, topicEnd), payload)
    else this.#control(connection, body.toString('latin1', 2, topicEnd), payload)
    if (packetId === 0) return
    if (this.isWithholding) connection.withheld.push({ packetId, message })
    else this.#acknowledge(connection, packetId, message)
  }

  #acknowledge({ pipe }: Connection, packetId: number, message: [ConversationId, number] | undefined): void {
    if (message !== undefined) this.#world.recorder.acknowledged(this.options.user, ...message)
    pipe.write(packets.puback(packetId))
  }

  #message(connection: Connection, topic: string, payload: Buffer): [ConversationId, number] {
    const { recorder } = this.#world
    const conv = topic.startsWith('g/') ? topic.slice(0, -4) : directOf(topic, payload)
    const seq = seqOf(payload)
    recorder.delivered++
    recorder.message(conv, seq, payload, this.name)
    this.#heard = { conv, seq }
    addToRuns(connection.isReady ? connection.after : connection.before, conv, seq)
    return [conv, seq]
  }

  #control(connection: Connection, topic: string, payload: Buffer): void {
    if (topic.endsWith('/ack')) this.#ack(payload)
    else recordSignal(this.#world.recorder, this.options.user, connection, topic, payload)
  }

  #ack(payload: Buffer): void {
    const ack = JSON.parse(payload.toString()) as {
      id?: string
      conv?: Address
      topic?: string
      seq: number
      ts: number
      dup?: boolean
      error?: { code: string }
    }
    const address = ack.conv ?? ack.topic?.slice(0, -4)
    const send = this.#unanswered.get(`${address} ${ack.id}`)
    if (send === undefined) return
    const { recorder } = this.#world
    if (ack.error === undefined) {
      recorder.write({ event: 'ack', send, seq: ack.seq, ts: ack.ts, dup: ack.dup === true, at: recorder.tick() })
      const conv = conversationOf(address as Address, this.options.user)
      if (conv !== undefined) this.#said = { conv, seq: ack.seq }
    } else {
      recorder.refused++
      recorder.write({ event: 'refused', send, code: ack.error.code })
    }
  }
}
