/**
 * Cuts the bytes of a connection into packets and checks their headers. Keeps the beginning of a packet whose end has not come;
 * stops when it is held and goes on, with what it has kept, when it is released. Owned by the connection.
 */
import { Assembly } from '../assembly.js'
import { assertHeader, ProtocolViolation } from './validate.js'

export interface PacketSink {
  /** A whole packet in `bytes`, from `at` to before `end`; its body begins at `start`. The bytes are valid during the call only. */
  packet(bytes: Buffer, at: number, start: number, end: number): void
}

export class PacketCutter {
  /** A longer packet is a violation as soon as its length is known. */
  packetBytesMax: number
  isHeld = false
  isStopped = false
  /** What the first byte must be: until the first packet, that of a CONNECT. */
  #first: number | undefined = 0x10
  #rest: Assembly | undefined
  /** Bytes of the rest from which on it is worth looking at again. */
  #restNeeded = 0
  readonly #sink: PacketSink

  constructor(packetBytesMax: number, sink: PacketSink) {
    this.packetBytesMax = packetBytesMax
    this.#sink = sink
  }

  /** Throws ProtocolViolation, and what the sink throws. */
  take(bytes: Buffer): void {
    if (!this.isHeld && this.#rest === undefined) return this.#cut(bytes)
    this.#keep(bytes)
    if (!this.isHeld && this.#rest !== undefined && this.#rest.length >= this.#restNeeded) this.#cutRest(this.#rest)
  }

  #keep(bytes: Buffer): void {
    this.#rest ??= new Assembly()
    this.#rest.append(bytes)
  }

  #cutRest(rest: Assembly): void {
    this.#rest = undefined
    this.#cut(rest.take())
  }

  /** Goes on with what came while it was held. Throws as `take` does. */
  release(): void {
    this.isHeld = false
    if (this.#rest !== undefined) this.#cutRest(this.#rest)
  }

  stop(): void {
    this.isStopped = true
    this.#rest = undefined
  }

  #cut(bytes: Buffer): void {
    let at = 0
    let total: number | undefined
    while (!this.isStopped && !this.isHeld && at < bytes.length) {
      const first = bytes[at] as number
      if (this.#first !== undefined && first !== this.#first) throw new ProtocolViolation('the first packet is not CONNECT [MQTT-3.1.0-1]')
      total = this.#lengthAt(bytes, at)
      if (total === undefined || at + total > bytes.length) break
      const end = at + total
      const start = bodyAt(bytes, at)
      assertHeader(first, end - start)
      this.#first = undefined
      this.#sink.packet(bytes, at, start, end)
      at = end
    }
    if (this.isStopped || at === bytes.length) return
    // A copy, since a short rest must not keep the whole chunk that it came in.
    this.#keep(bytes.subarray(at))
    this.#restNeeded = this.isHeld ? 0 : (total ?? 0)
  }

  /** undefined while the length is not whole. */
  #lengthAt(bytes: Buffer, at: number): number | undefined {
    let length = 0
    for (let i = 1; i < 5; i++) {
      const digit = bytes[at + i]
      if (digit === undefined) return undefined
      length |= (digit & 0x7f) << (7 * (i - 1))
      if (digit >= 0x80) continue
      const total = i + 1 + length
      if (total > this.packetBytesMax) throw new ProtocolViolation(`a packet of ${total} bytes; the limit is ${this.packetBytesMax}`)
      return total
    }
    throw new ProtocolViolation('a remaining length of more than 4 bytes [MQTT-2.2.3]')
  }
}

/** Where the body of the packet at `at` begins; its length field must be whole. */
export function bodyAt(bytes: Buffer, at: number): number {
  let start = at + 2
  while ((bytes[start - 1] as number) >= 0x80) start++
  return start
}
