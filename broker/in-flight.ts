/**
 * Packets that the hub has sent to one session and that are not yet acknowledged, in the order of sending.
 * A client acknowledges in that order [MQTT-4.6.0-2], so this is a ring: `add` and `acknowledge` take no allocation;
 * an acknowledgement out of order is marked and counts when all before it are in.
 * The hub's packet ids are 1 … 32,767; those above belong to Aedes.
 */
import type { ConversationId } from './topics.js'

export const hubPacketIdMax = 32_767
/** Acks, events and replies that may be unacknowledged; past it they are sent with QoS 0. */
export const controlsMax = 4_096

/** Entries from which on nothing but controls may be added; with a window of messages and all controls, no id is used twice. */
const entriesMax = 16_384
const ringMin = 4
const ringKeptMax = 256

/** Who is told how far a session's acknowledged prefix goes. */
export interface CursorMoves {
  moveCursor(conv: ConversationId, seq: number): void
}

export class InFlight {
  /** Messages among the unacknowledged packets. */
  messages = 0
  controls = 0
  #convs: (ConversationId | undefined)[] = []
  /** The seq, 0 for what is not a message; once acknowledged out of order: −seq − 1. */
  #seqs: number[] = []
  #head = 0
  #count = 0
  /** Packet id of the entry at the head. */
  #firstId = 1

  get size(): number {
    return this.#count
  }

  /** A client that withholds one PUBACK would otherwise let its own messages pile up behind it, and packet ids meet. */
  get isFull(): boolean {
    return this.#count >= entriesMax
  }

  #push(conv: ConversationId | undefined, seq: number): number {
    if (this.#count === this.#convs.length) this.#grow()
    const index = (this.#head + this.#count) & (this.#convs.length - 1)
    this.#convs[index] = conv
    this.#seqs[index] = seq
    const id = ((this.#firstId - 1 + this.#count) % hubPacketIdMax) + 1
    this.#count++
    return id
  }

  #grow(): void {
    const length = this.#convs.length
    const convs: (ConversationId | undefined)[] = new Array(Math.max(length * 2, ringMin)).fill(undefined)
    const seqs: number[] = new Array(convs.length).fill(0)
    for (let i = 0; i < this.#count; i++) {
      const index = (this.#head + i) & (length - 1)
      convs[i] = this.#convs[index]
      seqs[i] = this.#seqs[index] as number
    }
    this.#convs = convs
    this.#seqs = seqs
    this.#head = 0
  }

  /** Takes a packet id for a message. */
  addMessage(conv: ConversationId, seq: number): number {
    this.messages++
    return this.#push(conv, seq)
  }

  /** Takes a packet id for an ack, event or reply; 0 when too many are unacknowledged. */
  addControl(): number {
    if (this.controls >= controlsMax) return 0
    this.controls++
    return this.#push(undefined, 0)
  }

  /** Takes part in the order without being sent: the session's own message. */
  addOwn(conv: ConversationId, seq: number): void {
    this.#push(conv, -seq - 1)
  }

  has(packetId: number): boolean {
    const offset = (packetId - this.#firstId + hubPacketIdMax) % hubPacketIdMax
    return offset < this.#count && (this.#seqs[(this.#head + offset) & (this.#convs.length - 1)] as number) >= 0
  }

  /**
   * Ends the packet of this id; `moves` is told of each message that thereby belongs to the acknowledged
   * prefix. False: no such packet (a late or wrong id, to be ignored).
   */
  acknowledge(packetId: number, moves: CursorMoves | undefined): boolean {
    const offset = (packetId - this.#firstId + hubPacketIdMax) % hubPacketIdMax
    if (offset >= this.#count) return false
    const mask = this.#convs.length - 1
    const index = (this.#head + offset) & mask
    const seq = this.#seqs[index] as number
    if (seq < 0) return false
    if (this.#convs[index] === undefined) this.controls--
    else this.messages--
    this.#seqs[index] = -seq - 1
    if (offset === 0) this.#pop(moves)
    return true
  }

  #pop(moves: CursorMoves | undefined): void {
    const mask = this.#convs.length - 1
    while (this.#count > 0) {
      const seq = this.#seqs[this.#head] as number
      if (seq >= 0) return
      const conv = this.#convs[this.#head]
      if (conv !== undefined) moves?.moveCursor(conv, -seq - 1)
      this.#convs[this.#head] = undefined
      this.#head = (this.#head + 1) & mask
      this.#count--
      this.#firstId = (this.#firstId % hubPacketIdMax) + 1
    }
    if (this.#convs.length > ringKeptMax) {
      this.#convs = []
      this.#seqs = []
      this.#head = 0
    }
  }
}
