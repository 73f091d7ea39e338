/**
 * The face that a connection shows to Aedes: as much of a Duplex as Aedes uses of one, without its cost. What Aedes
 * reads are the packets that are its own to handle; what it writes is cut into packets again and given to `onPacket`.
 */
import { EventEmitter } from 'node:events'

export interface AedesStreamEvents {
  /** One whole packet that Aedes sends. */
  onPacket(packet: Buffer): void
  /** Aedes wants the connection closed. */
  onDestroy(error: Error | undefined): void
  /** Aedes has read all that it was given. */
  onRead(): void
  isCongested(): boolean
}

export class AedesStream extends EventEmitter {
  destroyed = false
  readonly readable = true
  readonly writable = true
  /** Bytes given and not yet read. */
  waitingBytes = 0
  #inbound: Buffer[] = []
  #announced = false
  #outbound: Buffer[] = []
  #outboundBytes = 0
  readonly #events: AedesStreamEvents

  constructor(events: AedesStreamEvents) {
    super()
    this.setMaxListeners(0)
    this.#events = events
  }

  /** Gives a packet to Aedes; the bytes are its own from then on. */
  give(packet: Buffer): void {
    this.#inbound.push(packet)
    this.waitingBytes += packet.length
    if (this.#announced) return
    this.#announced = true
    this.emit('readable')
  }

  read(): Buffer | null {
    this.#announced = false
    if (this.#inbound.length === 0) return null
    const all = this.#inbound.length === 1 ? (this.#inbound[0] as Buffer) : Buffer.concat(this.#inbound)
    this.#inbound = []
    this.waitingBytes = 0
    // Not before Aedes has them: what comes of it may give more, and that would overtake them.
    queueMicrotask(() => this.#events.onRead())
    return all
  }

  write(chunk: Buffer | string): boolean {
    if (this.destroyed) return false
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    this.#outbound.push(bytes)
    this.#outboundBytes += bytes.length
    this.#cut()
    return !this.#events.isCongested()
  }

  /** mqtt-packet writes a packet in several chunks; it is passed on when it is whole. */
  #cut(): void {
    while (this.#outboundBytes >= 2) {
      const bytes = this.#outbound.length === 1 ? (this.#outbound[0] as Buffer) : Buffer.concat(this.#outbound)
      this.#outbound = [bytes]
      const total = packetLength(bytes)
      if (total === undefined || total > bytes.length) return
      this.#outbound = total === bytes.length ? [] : [bytes.subarray(total)]
      this.#outboundBytes -= total
      this.#events.onPacket(bytes.subarray(0, total))
    }
  }

  cork(): void {
    // Whole packets are collected by the outbox.
  }

  uncork(): void {
    // See cork.
  }

  destroy(error?: Error): this {
    if (this.destroyed) return this
    this.destroyed = true
    this.#events.onDestroy(error)
    return this
  }
}

/** Length of the packet that starts here, or undefined while its header is not whole. */
export function packetLength(bytes: Buffer): number | undefined {
  let length = 0
  for (let i = 1; i < 5; i++) {
    const digit = bytes[i]
    if (digit === undefined) return undefined
    length |= (digit & 0x7f) << (7 * (i - 1))
    if (digit < 0x80) return i + 1 + length
  }
  throw new Error('a remaining length of more than 4 bytes was written')
}
