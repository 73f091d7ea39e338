/**
 * The commonest answer, the ack of a message that is stored (topics.md, "Acks"): a packet that is written byte by byte into what leaves,
 * without ever being a string or a buffer of its own.
 */
import { ascii, digitsOf, isPlain, writeAscii, writeBytes, writeDigits } from './ascii.js'
import { encodePublishOnce, publishHeadBytes, writePublishHead } from './mqtt/encode.js'
import { type Address, ackTopic } from './topics.js'

const beforeId = ascii('{"id":"')
const beforeConv = ascii('","conv":"')
const beforeSeq = ascii('","seq":')
const beforeTs = ascii(',"ts":')
const closing = ascii('}')
const closingDup = ascii(',"dup":true}')
const constantBytes = beforeId.length + beforeConv.length + beforeSeq.length + beforeTs.length

export class StoredAck {
  /** Bytes of the packet. */
  readonly length: number
  readonly #topic: string
  readonly #payloadBytes: number
  /** The id is not plain: as an ordinary packet. */
  readonly #encoded: Buffer | undefined

  /** QoS 0 when `packetId` is 0. */
  constructor(
    user: string,
    readonly id: string,
    readonly conv: Address,
    readonly seq: number,
    readonly ts: number,
    readonly dup: boolean,
    readonly packetId: number,
  ) {
    this.#topic = ackTopic(user)
    if (isPlain(id)) {
      const end = dup ? closingDup : closing
      this.#payloadBytes = constantBytes + id.length + conv.length + digitsOf(seq) + digitsOf(ts) + end.length
      this.length = publishHeadBytes(this.#topic, packetId, this.#payloadBytes) + this.#payloadBytes
    } else {
      this.#encoded = encodePublishOnce(this.#topic, JSON.stringify(dup ? { id, conv, seq, ts, dup } : { id, conv, seq, ts }), packetId)
      this.#payloadBytes = 0
      this.length = this.#encoded.length
    }
  }

  /** Returns the offset behind it. */
  writeTo(out: Buffer, start: number): number {
    if (this.#encoded !== undefined) return writeBytes(out, start, this.#encoded)
    const { id, conv, seq, ts } = this
    let at = writePublishHead(out, start, this.#topic, this.packetId, this.#payloadBytes)
    at = writeBytes(out, at, beforeId)
    at = writeAscii(out, at, id)
    at = writeBytes(out, at, beforeConv)
    at = writeAscii(out, at, conv)
    at = writeBytes(out, at, beforeSeq)
    at = writeDigits(out, at, seq, digitsOf(seq))
    at = writeBytes(out, at, beforeTs)
    at = writeDigits(out, at, ts, digitsOf(ts))
    return writeBytes(out, at, this.dup ? closingDup : closing)
  }
}
