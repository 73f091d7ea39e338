/**
 * A connection's link to Aedes, the engine of application topics. A connection has one from its CONNECT on when it has a will, no
 * user, or a session with application topics; otherwise from its first packet that Aedes must see: one that only chats costs
 * Aedes nothing. While Aedes opens its own session the connection is not read; what it sends before its CONNACK waits.
 */
import { AedesStream } from './aedes-stream.js'
import { ApplicationAcks } from './application-acks.js'
import type { Connection } from './connection.js'
import { packetType } from './mqtt/validate.js'

/** Bytes that Aedes may leave unread; past it the socket is not read. */
const unreadBytesMax = 1_048_576
const connackType = 2
const subackType = 9

export class ApplicationLink {
  isReady = false
  readonly acks = new ApplicationAcks()
  readonly #connection: Connection
  readonly #stream: AedesStream
  #toAedes: Buffer[] = []
  #fromAedes: Buffer[] | undefined = []

  constructor(connection: Connection) {
    this.#connection = connection
    this.#stream = new AedesStream({
      onPacket: (packet) => this.#packet(packet),
      onDestroy: (error) => connection.close(error?.message ?? 'disconnected'),
      onRead: () => connection.releaseIfRoom(),
      // What waited for the session is bounded, and nothing is read from the client until it has left.
      isCongested: () => this.isReady && connection.unsentBytes > connection.world.config.socketBytesMax,
    })
  }

  get isCongested(): boolean {
    return this.#stream.waitingBytes > unreadBytesMax
  }

  /** `connect`: a CONNECT of the same session. */
  open(connect: Buffer): void {
    this.#connection.world.adapter.handle(this.#connection, this.#stream)
    this.#stream.give(connect)
  }

  /** Gives a packet to Aedes; the bytes are its own from then on. */
  give(packet: Buffer): void {
    if (this.isReady) this.#stream.give(packet)
    else this.#toAedes.push(packet)
  }

  /** Aedes has opened its session. */
  ready(): void {
    this.isReady = true
    for (const packet of this.#toAedes.splice(0)) this.#stream.give(packet)
  }

  #packet(packet: Buffer): void {
    const connection = this.#connection
    if (connection.isClosed) return
    const type = (packet[0] as number) >> 4
    if (type === connackType) return this.#connack(packet[2] === 1, packet[3] as number)
    if (this.#fromAedes !== undefined) {
      this.#fromAedes.push(packet)
      return
    }
    if (type === subackType) return connection.subscriptions.granted(packet)
    if (type === packetType.publish || type === packetType.pubrel) this.acks.noteSent(packet)
    connection.sendBytes(packet)
  }

  #connack(isPresent: boolean, code: number): void {
    this.#connection.answerConnect(isPresent, code)
    const held = this.#fromAedes ?? []
    this.#fromAedes = undefined
    for (const packet of held) this.#packet(packet)
  }

  drained(): void {
    this.#stream.emit('drain')
  }

  close(): void {
    this.#stream.destroyed = true
    this.#stream.emit('close')
  }
}
