/**
 * Collects what one connection gets in a turn of the event loop and hands it to its transport as one write, into which
 * frames and acks are written. PUBACKs stand last: wherever the connection breaks, who has
 * the PUBACK of a publish has been told before what became of it.
 */
import { writeBytes } from './ascii.js'
import { Frame } from './mqtt/encode.js'
import { StoredAck } from './stored-ack.js'
import type { Transport } from './transport.js'

const slabBytes = 64 * 1024
let slab = Buffer.allocUnsafeSlow(slabBytes)
let slabUsed = 0

/** From a common slab, since most writes leave the process at once; own memory for what may stay or is large. */
function allocate(bytes: number, isShort: boolean): Buffer {
  if (!isShort || bytes > slabBytes / 4) return Buffer.allocUnsafeSlow(bytes)
  if (slabUsed + bytes > slabBytes) {
    slab = Buffer.allocUnsafeSlow(slabBytes)
    slabUsed = 0
  }
  slabUsed += bytes
  return slab.subarray(slabUsed - bytes, slabUsed)
}

/** What has left the process already is overwritten by the next: V8 collects the more often the more memory is taken beside its heap. */
function giveBack(out: Buffer): void {
  if (out.buffer === slab.buffer && out.byteOffset + out.length === slabUsed) slabUsed = out.byteOffset
}

let waiting: Outbox[] = []

function flushAll(): void {
  const outboxes = waiting
  waiting = []
  for (const outbox of outboxes) outbox.flush()
}

export const pubackBytes = 4

type Part = Buffer | StoredAck | Frame

export class Outbox {
  // Undefined while nothing waits, as with most connections most of the time.
  #parts: Part[] | undefined
  /** Per part: the packet id of a frame. */
  #ids: number[] | undefined
  #acks: number[] | undefined
  #bytes = 0
  #scheduled = false
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  get unsentBytes(): number {
    return this.#bytes + this.#transport.unsentBytes
  }

  sendFrame(frame: Frame, packetId: number): void {
    this.#push(frame, packetId)
  }

  sendBytes(bytes: Buffer): void {
    this.#push(bytes, 0)
  }

  sendAck(ack: StoredAck): void {
    this.#push(ack, 0)
  }

  #push(part: Part, packetId: number): void {
    this.#parts ??= []
    this.#ids ??= []
    this.#parts.push(part)
    this.#ids.push(packetId)
    this.#bytes += part.length
    if (!this.#scheduled) this.#schedule()
  }

  sendPuback(packetId: number): void {
    this.#acks ??= []
    this.#acks.push(packetId)
    this.#bytes += pubackBytes
    if (!this.#scheduled) this.#schedule()
  }

  #schedule(): void {
    this.#scheduled = true
    if (waiting.length === 0) setImmediate(flushAll)
    waiting.push(this)
  }

  flush(): void {
    this.#scheduled = false
    if (this.#bytes === 0) return
    const out = allocate(this.#bytes, this.#transport.unsentBytes === 0)
    let at = 0
    const parts = this.#parts ?? []
    const ids = this.#ids ?? []
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i] as Part
      if (part instanceof StoredAck) at = part.writeTo(out, at)
      else if (part instanceof Frame) at = part.writeTo(out, at, ids[i] as number)
      else at = writeBytes(out, at, part)
    }
    for (const id of this.#acks ?? []) {
      out[at] = 0x40
      out[at + 1] = 2
      out[at + 2] = id >> 8
      out[at + 3] = id & 0xff
      at += pubackBytes
    }
    this.clear()
    this.#transport.write(out)
    if (this.#transport.unsentBytes === 0) giveBack(out)
  }

  /** Throws away what is not yet handed over: the connection is gone. */
  clear(): void {
    this.#parts = undefined
    this.#ids = undefined
    this.#acks = undefined
    this.#bytes = 0
  }
}
