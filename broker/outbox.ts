/**
 * Collects what one connection gets in a turn of the event loop and hands it to its transport as one write.
 * A shared frame is copied once, into that write, with the receiver's packet id. PUBACKs stand last: wherever the connection breaks, who has
 * the PUBACK of a publish has been told before what became of it.
 */
import type { Frame } from './mqtt/encode.js'
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

let waiting: Outbox[] = []

function flushAll(): void {
  const outboxes = waiting
  waiting = []
  for (const outbox of outboxes) outbox.flush()
}

export const pubackBytes = 4

export class Outbox {
  #parts: (Buffer | StoredAck)[] = []
  /** Per part: where its packet id goes, or 0 to copy it as it is; and the id. */
  #idsAt: number[] = []
  #ids: number[] = []
  #acks: number[] = []
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
    this.#push(frame.bytes, frame.idAt, packetId)
  }

  sendBytes(bytes: Buffer): void {
    this.#push(bytes, 0, 0)
  }

  sendAck(ack: StoredAck): void {
    this.#push(ack, 0, 0)
  }

  #push(part: Buffer | StoredAck, idAt: number, packetId: number): void {
    this.#parts.push(part)
    this.#idsAt.push(idAt)
    this.#ids.push(packetId)
    this.#bytes += part.length
    if (!this.#scheduled) this.#schedule()
  }

  sendPuback(packetId: number): void {
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
    for (let i = 0; i < this.#parts.length; i++) {
      const part = this.#parts[i] as Buffer | StoredAck
      if (part instanceof StoredAck) {
        at = part.writeTo(out, at)
        continue
      }
      out.set(part, at)
      const idAt = this.#idsAt[i] as number
      if (idAt !== 0) {
        const id = this.#ids[i] as number
        out[at + idAt] = id >> 8
        out[at + idAt + 1] = id & 0xff
      }
      at += part.length
    }
    for (const id of this.#acks) {
      out[at] = 0x40
      out[at + 1] = 2
      out[at + 2] = id >> 8
      out[at + 3] = id & 0xff
      at += pubackBytes
    }
    this.#parts = []
    this.#idsAt = []
    this.#ids = []
    this.#acks = []
    this.#bytes = 0
    this.#transport.write(out)
  }

  /** Throws away what is not yet handed over: the connection is gone. */
  clear(): void {
    this.#parts = []
    this.#idsAt = []
    this.#ids = []
    this.#acks = []
    this.#bytes = 0
  }
}
