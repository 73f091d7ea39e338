/**
 * A low-level MQTT 3.1.1 client for tests, over TCP, TLS or WebSocket: it sends whatever bytes it is given and keeps every
 * packet that arrives. It never retries and never reconnects; it acknowledges only while `autoAck` is true.
 */
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { parser as createParser, type Packet, type PacketCmd } from 'mqtt-packet'
import { WebSocket } from 'ws'
import * as packets from './packets.js'

export type { Packet } from 'mqtt-packet'
export type PacketOf<C extends PacketCmd> = Extract<Packet, { cmd: C }>
export type Message = PacketOf<'publish'>

export interface LinkOptions {
  port: number
  host?: string
  transport?: 'tcp' | 'tls' | 'ws'
  /** TLS only: who signed the server's certificate, as PEM. */
  ca?: string
  /** WebSocket only. */
  path?: string
  subprotocols?: string[]
}

export interface RawOptions extends LinkOptions, packets.ConnectFields {
  autoAck?: boolean
}

export interface PublishOptions {
  qos?: 0 | 1 | 2
  retain?: boolean
  dup?: boolean
  packetId?: number
}

interface Link {
  write(chunk: Buffer): void
  pause(): void
  resume(): void
  /** Closes as a program does that ends without DISCONNECT. */
  end(): void
  /** Closes at once; over TCP with a reset. */
  reset(): void
  /** The WebSocket, for tests that work on frames. */
  readonly webSocket: WebSocket | undefined
}

interface LinkEvents {
  data(chunk: Buffer): void
  close(): void
}

function openSocket({ port, host = '127.0.0.1', transport, ca }: LinkOptions, events: LinkEvents): Promise<Link> {
  return new Promise((resolve, reject) => {
    const tcp: Socket = connectTcp({ port, host, noDelay: true })
    const isTls = transport === 'tls'
    const socket = isTls ? connectTls({ socket: tcp, host, ...(ca === undefined ? {} : { ca }) }) : tcp
    socket.on('error', reject) // after the connect a reset is reported here, too: 'close' follows
    socket.on('data', events.data)
    socket.on('close', events.close)
    socket.on(isTls ? 'secureConnect' : 'connect', () =>
      resolve({
        write: (chunk) => socket.write(chunk),
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        end: () => socket.end(),
        reset: () => tcp.resetAndDestroy(),
        webSocket: undefined,
      }),
    )
  })
}

function openWebSocket(
  { port, host = '127.0.0.1', path = '/mqtt', subprotocols = ['mqtt'] }: LinkOptions,
  events: LinkEvents,
): Promise<Link> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${host}:${port}${path}`, subprotocols, { perMessageDeflate: false, handshakeTimeout: 5_000 })
    socket.on('error', reject)
    socket.on('message', (content) => events.data(content as Buffer)) // binaryType is nodebuffer
    socket.on('close', events.close)
    socket.on('open', () =>
      resolve({
        write: (chunk) => socket.send(chunk),
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        end: () => socket.close(),
        reset: () => socket.terminate(),
        webSocket: socket,
      }),
    )
  })
}

interface Waiter {
  take(packet: Packet): boolean
  fail(why: string): void
}

const show = (packet: Packet): string =>
  JSON.stringify(packet, (_key, value) => (value?.type === 'Buffer' ? `${value.data.length} bytes` : value))

export class RawClient {
  /** Every packet that arrived, in order. */
  readonly received: Packet[] = []
  /** What arrived and no wait has taken yet. */
  readonly inbox: Packet[] = []
  /** Resolves with all that was received, when the connection has been closed by either side. */
  readonly closed: Promise<Packet[]>
  isClosed = false
  /** PUBACK, PUBREC and PUBCOMP by itself. */
  autoAck: boolean
  /** The CONNACK's flag; undefined until it came. */
  sessionPresent: boolean | undefined
  readonly #link: Link
  readonly #waiters = new Set<Waiter>()
  #packetId = 0
  #fault = 'the connection was closed'

  private constructor(link: Link, closed: Promise<void>, autoAck: boolean) {
    this.#link = link
    this.autoAck = autoAck
    this.closed = closed.then(() => {
      this.isClosed = true
      for (const waiter of this.#waiters) waiter.fail(this.#fault)
      return this.received
    })
  }

  /** Opens the connection and sends nothing. */
  static async open(options: LinkOptions & { autoAck?: boolean }): Promise<RawClient> {
    const parser = createParser({ protocolVersion: 4 })
    const early: Packet[] = []
    let client: RawClient | undefined
    parser.on('packet', (packet) => (client === undefined ? early.push(packet) : client.#receive(packet)))
    let onClose: (() => void) | undefined
    const closed = new Promise<void>((resolve) => {
      onClose = resolve
    })
    const open = options.transport === 'ws' ? openWebSocket : openSocket
    const link = await open(options, { data: (chunk) => parser.parse(chunk), close: () => onClose?.() })
    client = new RawClient(link, closed, options.autoAck ?? true)
    parser.on('error', (error: Error) => {
      if (client === undefined) return
      client.#fault = `the server sent what is not MQTT: ${error.message}`
      client.reset()
    })
    for (const packet of early) client.#receive(packet)
    return client
  }

  get webSocket(): WebSocket | undefined {
    return this.#link.webSocket
  }

  #receive(packet: Packet): void {
    this.received.push(packet)
    if (this.autoAck) this.#acknowledge(packet)
    for (const waiter of this.#waiters) if (waiter.take(packet)) return
    this.inbox.push(packet)
  }

  #acknowledge(packet: Packet): void {
    const packetId = packet.messageId ?? 0
    if (packet.cmd === 'publish' && packet.qos === 1) this.send(packets.puback(packetId))
    if (packet.cmd === 'publish' && packet.qos === 2) this.send(packets.pubrec(packetId))
    if (packet.cmd === 'pubrel') this.send(packets.pubcomp(packetId))
  }

  /** Sends the bytes in one write; once closed, nothing happens. */
  send(...chunks: Buffer[]): void {
    if (!this.isClosed) this.#link.write(Buffer.concat(chunks))
  }

  /** Takes the first packet, of those not taken yet or to come, for which the predicate holds. */
  waitFor<P extends Packet>(predicate: (packet: Packet) => packet is P, options?: { timeoutMs?: number; what?: string }): Promise<P>
  waitFor(predicate: (packet: Packet) => boolean, options?: { timeoutMs?: number; what?: string }): Promise<Packet>
  waitFor(predicate: (packet: Packet) => boolean, { timeoutMs = 5_000, what = 'a packet' } = {}): Promise<Packet> {
    const at = this.inbox.findIndex(predicate)
    if (at !== -1) return Promise.resolve(this.inbox.splice(at, 1)[0] as Packet)
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        take: (packet) => {
          if (!predicate(packet)) return false
          settle()
          resolve(packet)
          return true
        },
        fail: (why) => {
          settle()
          reject(new Error(`waited for ${what}, but ${why}; not taken: ${this.inbox.slice(0, 10).map(show).join(' ') || 'nothing'}`))
        },
      }
      const timer = setTimeout(() => waiter.fail(`it did not come within ${timeoutMs} ms`), timeoutMs)
      if (this.isClosed) waiter.fail(this.#fault)
      else this.#waiters.add(waiter)
    })
  }

  /** The next packet of this kind; with `packetId`, of this id. */
  expect<C extends PacketCmd>(cmd: C, packetId?: number, timeoutMs = 5_000): Promise<PacketOf<C>> {
    const isIt = (packet: Packet): packet is PacketOf<C> => packet.cmd === cmd && (packetId === undefined || packet.messageId === packetId)
    return this.waitFor(isIt, { timeoutMs, what: packetId === undefined ? cmd : `${cmd} ${packetId}` })
  }

  /** The next message; with `topic`, on this topic. */
  message(topic?: string, timeoutMs = 5_000): Promise<Message> {
    const isIt = (packet: Packet): packet is Message => packet.cmd === 'publish' && (topic === undefined || packet.topic === topic)
    return this.waitFor(isIt, { timeoutMs, what: topic === undefined ? 'a message' : `a message on ${topic}` })
  }

  /** Resolves when the server has closed the connection. */
  async expectClose(timeoutMs = 5_000): Promise<Packet[]> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`the connection is still open after ${timeoutMs} ms`)), timeoutMs)
    })
    return Promise.race([this.closed, late]).finally(() => clearTimeout(timer))
  }

  nextPacketId(): number {
    this.#packetId = (this.#packetId % 65_535) + 1
    return this.#packetId
  }

  async connect(fields: packets.ConnectFields = {}): Promise<void> {
    this.send(packets.connect(fields))
    const connack = await this.expect('connack')
    if (connack.returnCode !== 0) throw new Error(`the server refused the connection with CONNACK ${connack.returnCode}`)
    this.sessionPresent = connack.sessionPresent
  }

  /** Returns the codes of the SUBACK. */
  async subscribe(...asked: packets.Asked[]): Promise<number[]> {
    const packetId = this.nextPacketId()
    this.send(packets.subscribe(packetId, ...asked))
    return (await this.expect('suback', packetId)).granted as number[]
  }

  async unsubscribe(...filters: packets.Text[]): Promise<void> {
    const packetId = this.nextPacketId()
    this.send(packets.unsubscribe(packetId, ...filters))
    await this.expect('unsuback', packetId)
  }

  /** Resolves when the server has taken it: for QoS 0 at once, else with the last acknowledgement. */
  async publish(
    topic: packets.Text,
    payload: packets.Text,
    { qos = 0, packetId = this.nextPacketId(), ...flags }: PublishOptions = {},
  ): Promise<void> {
    this.send(packets.publish({ topic, payload, qos, packetId, ...flags }))
    if (qos === 1) await this.expect('puback', packetId)
    if (qos < 2) return
    await this.expect('pubrec', packetId)
    this.send(packets.pubrel(packetId))
    await this.expect('pubcomp', packetId)
  }

  async ping(): Promise<void> {
    this.send(packets.pingreq)
    await this.expect('pingresp')
  }

  /** Leaves with a DISCONNECT. */
  async disconnect(): Promise<void> {
    this.send(packets.disconnect)
    this.#link.end()
    await this.closed
  }

  /** Leaves without a DISCONNECT, in order as far as TCP is concerned. */
  async end(): Promise<void> {
    this.#link.end()
    await this.closed
  }

  /** Breaks the connection off; over TCP with a reset. */
  reset(): void {
    if (!this.isClosed) this.#link.reset()
  }

  /** Stops reading, so that the server's writes pile up. */
  pause(): void {
    this.#link.pause()
  }

  resume(): void {
    this.#link.resume()
  }
}

/** Connects with a CONNECT; throws if the server refuses it. */
export async function connectRaw(options: RawOptions): Promise<RawClient> {
  const client = await RawClient.open(options)
  await client.connect(options)
  return client
}
