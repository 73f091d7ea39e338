/**
 * One live session: what the hub sends to one device, under the delivery rule (docs/architecture.md).
 * Guarantees: every message offered or found in the log is sent in seq order per conversation, each range once per
 * connection; at most `window` messages are unacknowledged; nothing is buffered beyond the socket's bound: what has
 * no room is read from the log later. The hub creates it, the connection feeds it with PUBACKs.
 */

import { type CursorMoves, InFlight } from './in-flight.js'
import { encodePublishOnce, Frame } from './mqtt/encode.js'
import type { LogEntry } from './store/store.js'
import { StoredAck } from './stored-ack.js'
import { type Address, addressOf, type ConversationId, conversationOf, deliveryTopic, eventTopic } from './topics.js'

/** Where a session's packets go: its connection. */
export interface Outlet {
  /** Bytes that the socket has not taken yet, what this turn wrote included. */
  readonly unsentBytes: number
  /** Queues a copy of the frame with this packet id for the one write at the end of the turn. */
  sendFrame(frame: Frame, packetId: number): void
  sendBytes(bytes: Buffer): void
  sendAck(ack: StoredAck): void
  close(why: string): void
}

export interface SessionLimits {
  /** Unacknowledged messages. */
  window: number
  socketBytesMax: number
}

export interface SessionWorld {
  readonly limits: SessionLimits
  read(conv: ConversationId, from: number, to: number, limit: number): Promise<LogEntry[]>
  failed(session: Session, error: unknown): void
  /** The first of its cursors moved: to be told, and of a persistent session to be written behind. */
  cursorMoved(session: Session): void
  replayed(messages: number): void
}

/** Both ends inclusive. */
export interface Range {
  next: number
  last: number
}

/** Of a membership, as dispatched. */
export interface MembershipChange {
  isIn: boolean
  /** The entry that removed the member first: what the rows said holds up to there. */
  outAt: number | undefined
}

/** Until the first backlog is through: what `ready` will say. */
interface Backlog {
  /** The seq that each conversation of the backlog must reach. */
  targets: Map<ConversationId, number>
  replayed: number
  heads: Record<Address, number>
  truncated: Record<Address, [number, number]> | undefined
}

const readMax = 256

/** What a session has nothing of, as most have most of the time, is undefined: empty Maps would take four times the memory of the rest. */
export class Session implements CursorMoves {
  readonly inFlight = new InFlight()
  /** Conversations in which newer messages wait in the log; in ascending, disjoint ranges. Never empty. */
  behind: Map<ConversationId, Range[]> | undefined
  /** What was acknowledged and the hub has not taken yet: cursors to be written, and what was delivered. Never empty. */
  cursors: Map<ConversationId, number> | undefined
  /** Of this connect of the device: the highest one lives. 0 until it is taken. */
  epoch = 0
  /** The highest epoch of the device that others have told of. */
  overtakenBy = 0
  /** Groups whose typing signals it has subscribed to; `+` stands for all. */
  typingGroups: Set<string> | undefined
  /** Groups in whose audience the hub has put it. */
  groups: Set<ConversationId> | undefined
  /** Groups that its user has left, and the seq up to which it has heard them. */
  formerGroups: Map<ConversationId, number> | undefined
  /** What became of its groups between its coming and its being placed. */
  changes: Map<ConversationId, MembershipChange> | undefined
  /** From the connect to the end of loading: everything goes to the log's side. */
  loading = true
  /** The conversations that its user had are known, and where it stands in each; all that is dispatched from here on is for it. */
  isPlaced = false
  closed = false
  #pumping = false
  #backlog: Backlog | undefined
  /**
   * Cursors of conversations whose backlog was cut, 0 where one has not moved: kept back until `ready`, which names what was cut,
   * is acknowledged. A session that ends before would otherwise come back behind the cut, and nobody would hear of it.
   */
  #held: Map<ConversationId, number> | undefined
  #readyId = 0

  constructor(
    readonly user: string,
    readonly device: string,
    readonly persistent: boolean,
    readonly outlet: Outlet,
    readonly world: SessionWorld,
  ) {}

  get key(): string {
    return `${this.user}/${this.device}`
  }

  moveCursor(conv: ConversationId, seq: number): void {
    if (this.#held?.has(conv)) {
      this.#held.set(conv, seq)
      return
    }
    if (this.cursors === undefined) {
      this.cursors = new Map()
      this.world.cursorMoved(this)
    }
    this.cursors.set(conv, seq)
  }

  /** For who writes or tells them; the next one is told of anew. */
  takeCursors(): Map<ConversationId, number> | undefined {
    const { cursors } = this
    this.cursors = undefined
    return cursors
  }

  /** The client knows what was cut off. */
  #releaseHeld(): void {
    const held = this.#held
    if (held === undefined) return
    this.#held = undefined
    for (const [conv, seq] of held) if (seq > 0) this.moveCursor(conv, seq)
  }

  get hasRoom(): boolean {
    const { window, socketBytesMax } = this.world.limits
    return this.inFlight.messages < window && !this.inFlight.isFull && this.outlet.unsentBytes < socketBytesMax
  }

  /** Nothing may stand on the wire before CONNACK [MQTT-3.2.0-1]: who is still connecting learns by `ready` and by asking what is so then. */
  get #isMute(): boolean {
    return this.closed || this.loading
  }

  /** A new message of a conversation: sent at once, or left to the log. `frame` is shared by all receivers. */
  offer(conv: ConversationId, seq: number, frame: Frame): void {
    if (this.loading || this.behind?.has(conv) || !this.hasRoom) return this.#fallBehind(conv, seq)
    this.outlet.sendFrame(frame, this.inFlight.addMessage(conv, seq))
  }

  /** The session's own message: not sent back, but its cursor passes it in order. */
  offerOwn(conv: ConversationId, seq: number): void {
    if (this.loading || this.behind?.has(conv)) return this.#fallBehind(conv, seq)
    if (!this.persistent) return
    if (this.inFlight.isFull) return this.#fallBehind(conv, seq)
    if (this.inFlight.size === 0) this.moveCursor(conv, seq)
    else this.inFlight.addOwn(conv, seq)
  }

  #fallBehind(conv: ConversationId, seq: number): void {
    const ranges = this.behind?.get(conv)
    const last = ranges?.at(-1)
    if (ranges === undefined) this.#setBehind(conv, [{ next: seq, last: seq }])
    else if (last !== undefined && last.last === seq - 1) last.last = seq
    else if (last === undefined || last.last < seq) ranges.push({ next: seq, last: seq })
  }

  #setBehind(conv: ConversationId, ranges: Range[]): void {
    this.behind ??= new Map()
    this.behind.set(conv, ranges)
  }

  /** Was not offered, as what comes behind it perhaps was: left to the log. */
  missed(conv: ConversationId, ranges: readonly Range[]): void {
    const merged = mergeRanges(ranges, this.behind?.get(conv) ?? [])
    if (merged.length === 0) return
    this.#setBehind(conv, merged)
    this.pump()
  }

  /** Ends loading: `ranges` is the backlog that the log holds for this session. */
  start(
    ranges: Map<ConversationId, Range[]>,
    heads: Record<Address, number>,
    truncated: Record<Address, [number, number]> | undefined,
  ): void {
    const targets = new Map<ConversationId, number>()
    for (const [conv, older] of ranges) {
      const newer = this.behind?.get(conv) ?? []
      const merged = mergeRanges(older, newer)
      if (merged.length > 0) this.#setBehind(conv, merged)
    }
    // Also what came while it was loading: `heads` may name it.
    for (const [conv, waiting] of this.behind ?? []) targets.set(conv, (waiting.at(-1) as Range).last)
    this.#backlog = { targets, replayed: 0, heads, truncated }
    if (truncated !== undefined && this.persistent) {
      this.#held = new Map(Object.keys(truncated).map((address) => [conversationOf(address, this.user) as ConversationId, 0]))
    }
    this.loading = false
    this.pump()
  }

  /** A PUBACK. False for an id that is not in flight. */
  acknowledge(packetId: number): boolean {
    const known = this.inFlight.acknowledge(packetId, this)
    if (packetId === this.#readyId && known) this.#releaseHeld()
    if (this.behind !== undefined && !this.#pumping && this.inFlight.messages * 2 <= this.world.limits.window) this.pump()
    return known
  }

  /** Sends what waits in the log while there is room. Called when room may have appeared; never overlaps itself. */
  pump(): void {
    if (this.#pumping || this.loading || this.closed) return
    if (this.behind === undefined) return this.#finishBacklog()
    if (!this.hasRoom) return
    this.#pumping = true
    this.#run().then(
      () => {
        this.#pumping = false
        if (this.behind !== undefined && this.hasRoom) this.pump()
      },
      (error) => {
        this.#pumping = false
        this.world.failed(this, error)
      },
    )
  }

  async #run(): Promise<void> {
    while (!this.closed && this.behind !== undefined && this.hasRoom) {
      const [conv, [first]] = this.behind.entries().next().value as [ConversationId, Range[]]
      const room = this.world.limits.window - this.inFlight.messages
      const { next, last } = first as Range
      const entries = await this.world.read(conv, next, Math.min(last, next + readMax), Math.min(room, readMax))
      if (this.closed) return
      if (entries.length === 0) throw new Error(`the log of ${conv} has no entry ${next}, though its head is ${last} or more`)
      const ranges = this.behind.get(conv) as Range[]
      const range = ranges[0] as Range
      // What was missed before it has become known meanwhile, and goes first.
      if (range.next !== next) continue
      for (const entry of entries) {
        if (!this.hasRoom) break
        this.#replay(conv, entry)
        range.next = entry.seq + 1
      }
      if (range.next > range.last) ranges.shift()
      // One conversation after the other gets its turn.
      this.behind.delete(conv)
      if (ranges.length > 0) this.behind.set(conv, ranges)
      else if (this.behind.size === 0) this.behind = undefined
      this.#reached(conv, range.next - 1)
    }
  }

  #replay(conv: ConversationId, entry: LogEntry): void {
    if (entry.from === this.user && entry.device === this.device) {
      if (!this.persistent) return
      if (this.inFlight.size === 0) this.moveCursor(conv, entry.seq)
      else this.inFlight.addOwn(conv, entry.seq)
      return
    }
    const frame = new Frame(deliveryTopic(conv, this.user), entry.payload)
    this.outlet.sendFrame(frame, this.inFlight.addMessage(conv, entry.seq))
    if (this.#backlog !== undefined) this.#backlog.replayed++
    this.world.replayed(1)
  }

  #reached(conv: ConversationId, seq: number): void {
    const backlog = this.#backlog
    if (backlog === undefined) return
    const target = backlog.targets.get(conv)
    if (target !== undefined && seq >= target) backlog.targets.delete(conv)
    if (backlog.targets.size === 0) this.#finishBacklog()
  }

  #finishBacklog(): void {
    const backlog = this.#backlog
    if (backlog === undefined) return
    this.#backlog = undefined
    const { replayed, heads, truncated } = backlog
    const event = truncated === undefined ? { type: 'ready', replayed, heads } : { type: 'ready', replayed, heads, truncated }
    this.#readyId = this.sendEvent(event)
    if (this.#readyId === 0) this.#releaseHeld() // Sent with QoS 0: there will be no PUBACK.
  }

  sendEvent(event: object): number {
    return this.sendControl(eventTopic(this.user), JSON.stringify(event))
  }

  /** An ack, event or reply: to this session only, never replayed. Its packet id; 0 when it has none. */
  sendControl(topic: string, payload: string): number {
    if (this.#isMute) return 0
    const packetId = this.inFlight.addControl()
    this.outlet.sendBytes(encodePublishOnce(topic, payload, packetId))
    return packetId
  }

  /** QoS 0, for what is soon out of date: dropped when the socket is full. Whether it was sent. */
  sendSignal(topic: string, payload: string): boolean {
    if (this.#isMute || this.outlet.unsentBytes >= this.world.limits.socketBytesMax) return false
    this.outlet.sendBytes(encodePublishOnce(topic, payload, 0))
    return true
  }

  /** Like sendControl, for the ack of a message that is stored. */
  sendStoredAck(id: string, conv: Address, seq: number, ts: number, dup: boolean): void {
    if (!this.#isMute) this.outlet.sendAck(new StoredAck(this.user, id, conv, seq, ts, dup, this.inFlight.addControl()))
  }

  addressOf(conv: ConversationId): Address {
    return addressOf(conv, this.user)
  }
}

/** Both, in order; what overlaps is joined. */
export function mergeRanges(some: readonly Range[], others: readonly Range[]): Range[] {
  const merged: Range[] = []
  for (const { next, last } of [...some, ...others].sort((a, b) => a.next - b.next)) {
    if (next > last) continue
    const previous = merged.at(-1)
    if (previous !== undefined && next <= previous.last + 1) previous.last = Math.max(previous.last, last)
    else merged.push({ next, last })
  }
  return merged
}
