/**
 * What the journal holds and the tables do not yet: per conversation the newest segments, the seq of each message id,
 * and the last send of each sender. Two generations: `filling` takes what is appended; `settling` is moved into the
 * tables, conversation by conversation, along with later appends. All of one conversation in `settling` is older than what
 * `filling` has of it.
 */
import { keptCopy } from '../../kept-copy.js'
import type { ConversationId } from '../../topics.js'
import type { LogEntry } from '../store.js'
import type { Segment } from './record.js'

/** A message costs 1, and 1 more for each KiB. Bounds memory, and what one busy conversation settles in one commit. */
const generationCostMaxDefault = 16_384
const costUnitBytes = 1_024
/** The filling generation may grow to so many times its size while the one before is settled. */
const fullFactor = 8

export const costOf = ({ entries, bytes }: Segment): number => entries.length + bytes.length / costUnitBytes

export interface RecentSegment {
  bytes: Buffer
  lastSeq: number
  lastTs: number
}

export class RecentConversation {
  readonly segments: RecentSegment[] = []
  readonly lastSent = new Map<string, number>()
  cost = 0
  /** Who sent what, from `#firstSeq` on without a gap. */
  readonly senders: string[] = []
  readonly ids: string[] = []
  readonly #firstSeq: number
  /** sender → message id → seq, of the first `#indexed`: made when somebody asks, as hardly anybody sends again. */
  readonly #index = new Map<string, Map<string, number>>()
  #indexed = 0

  constructor(firstSeq: number) {
    this.#firstSeq = firstSeq
  }

  seqOf(at: number): number {
    return this.#firstSeq + at
  }

  addSent({ from, id, seq }: LogEntry): void {
    this.senders.push(from)
    this.ids.push(id)
    this.lastSent.set(from, seq)
  }

  findSent(from: string, id: string): number | undefined {
    for (; this.#indexed < this.ids.length; this.#indexed++) {
      const sender = this.senders[this.#indexed] as string
      let ids = this.#index.get(sender)
      if (ids === undefined) {
        ids = new Map()
        this.#index.set(sender, ids)
      }
      ids.set(this.ids[this.#indexed] as string, this.seqOf(this.#indexed))
    }
    return this.#index.get(from)?.get(id)
  }
}

export interface Generation {
  conversations: Map<ConversationId, RecentConversation>
  /** The last journal record with entries of this generation. */
  lastRecord: number
  cost: number
}

const newGeneration = (): Generation => ({ conversations: new Map(), lastRecord: 0, cost: 0 })

export class Recent {
  filling = newGeneration()
  settling: Generation | undefined
  readonly #costMax: number

  constructor(generationCostMax = generationCostMaxDefault) {
    this.#costMax = generationCostMax
  }

  /** Takes the segments of a journal record that is durable; they lie in `journal`, which may be reused afterwards. */
  addAll(segments: readonly Segment[], journal: Buffer, record: number): void {
    const kept = keptCopy(journal)
    for (const segment of segments) {
      const start = segment.bytes.byteOffset - journal.byteOffset
      this.add(segment, kept.subarray(start, start + segment.bytes.length), record)
    }
  }

  /** Takes a segment that is durable in journal record `record`; its bytes are kept, so they must not be reused. */
  add(segment: Segment, bytes: Buffer, record: number): void {
    const { conv, entries } = segment
    const { filling } = this
    let recent = filling.conversations.get(conv)
    if (recent === undefined) {
      recent = new RecentConversation((entries[0] as LogEntry).seq)
      filling.conversations.set(conv, recent)
    }
    const last = entries[entries.length - 1] as LogEntry
    recent.segments.push({ bytes, lastSeq: last.seq, lastTs: last.ts })
    for (const entry of entries) recent.addSent(entry)
    const cost = costOf(segment)
    recent.cost += cost
    filling.cost += cost
    filling.lastRecord = record
  }

  /** Begins to settle the filling generation when it has reached `costMin` and the one before is done; true if it did. */
  turn(costMin = this.#costMax): boolean {
    if (this.settling !== undefined || this.filling.cost < costMin || this.filling.cost === 0) return false
    this.settling = this.filling
    this.filling = newGeneration()
    return true
  }

  /** Settling does not keep up: what is appended must wait. */
  get isFull(): boolean {
    return this.filling.cost > this.#costMax * fullFactor
  }

  /** Oldest first: what is known of the conversation beyond the tables. */
  *of(conv: ConversationId): Generator<RecentConversation> {
    const settling = this.settling?.conversations.get(conv)
    if (settling !== undefined) yield settling
    const filling = this.filling.conversations.get(conv)
    if (filling !== undefined) yield filling
  }

  /** All that was appended is in the tables. */
  get isEmpty(): boolean {
    return this.filling.conversations.size === 0 && this.settling === undefined
  }

  /** Of all that is not in the tables yet, in no order, those in both generations twice. */
  *names(): Generator<ConversationId> {
    yield* this.filling.conversations.keys()
    if (this.settling !== undefined) yield* this.settling.conversations.keys()
  }

  last(conv: ConversationId): RecentSegment | undefined {
    return (this.filling.conversations.get(conv) ?? this.settling?.conversations.get(conv))?.segments.at(-1)
  }

  findSent(conv: ConversationId, from: string, id: string): number | undefined {
    return this.filling.conversations.get(conv)?.findSent(from, id) ?? this.settling?.conversations.get(conv)?.findSent(from, id)
  }

  lastSent(conv: ConversationId, user: string): number | undefined {
    return this.filling.conversations.get(conv)?.lastSent.get(user) ?? this.settling?.conversations.get(conv)?.lastSent.get(user)
  }
}
