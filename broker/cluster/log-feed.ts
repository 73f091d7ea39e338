/**
 * Tells the other nodes of what this one has written: a numbered frame for each batch that was dispatched, and every 2 s a
 * digest of the last seconds, which also says that this node is alive. It waits for nothing and keeps nothing that could
 * not be read from the log.
 */
import type { Bus } from '../bus.js'
import type { Effect, LogEntry } from '../store/store.js'
import type { ConversationId } from '../topics.js'
import { encodeDigest, encodeFrame, type Written } from './frame.js'

export const frameKind = 'log'
export const digestKind = 'log-digest'
export const digestMs = 2_000

/** A frame that three digests did not heal is found out by its number, and then everything is checked. */
const digestsKept = 3
const headsMax = 20_000
const frameBytesMax = 1024 * 1024
const entryBytes = 200

interface Recent {
  head: number
  /** The frame that told of the head. */
  number: number
  /** Who came in, and the frame that told it. */
  joined: Map<string, number>
}

export class LogFeed {
  readonly #bus: Bus
  #number = 0
  #entries: Written[] = []
  /** Of each conversation the last of these entries. */
  readonly #lastOf = new Map<ConversationId, Written>()
  #bytes = 0
  #isDue = false
  /** Least recently written first. */
  readonly #recent = new Map<ConversationId, Recent>()
  /** The first frame that the coming digests cover, and what it was at the digests before. */
  #from = 0
  #numbers: number[] = []
  readonly #timer: NodeJS.Timeout

  constructor(bus: Bus) {
    this.#bus = bus
    this.#timer = setInterval(() => this.#tell('goes on'), digestMs).unref()
    this.#tell('goes on')
  }

  /** Called for every entry that this node has written, in log order per conversation. */
  written(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    const written: Written = { conv, entry, effects }
    this.#entries.push(written)
    this.#lastOf.set(conv, written)
    this.#bytes += entry.payload.length + entryBytes
    if (this.#bytes >= frameBytesMax) this.#send()
    else if (!this.#isDue) {
      this.#isDue = true
      // Once for a batch, and before its acknowledgements leave: who has one finds the message in his list on every node.
      queueMicrotask(() => this.#send())
    }
  }

  /** This entry, given a moment ago, is the last one of an append. Told if that has not left yet. */
  ended(conv: ConversationId, seq: number): void {
    const last = this.#lastOf.get(conv)
    if (last?.entry.seq === seq) last.isEnd = true
  }

  /** Somebody has written up to `seq` and perhaps told nobody: the next digests name it. */
  found(conv: ConversationId, seq: number): void {
    this.#remember(conv, Math.max(seq, this.#recent.get(conv)?.head ?? 0), this.#number, [])
  }

  #send(): void {
    this.#isDue = false
    const entries = this.#entries
    if (entries.length === 0) return
    this.#entries = []
    this.#lastOf.clear()
    this.#bytes = 0
    const number = this.#number++
    this.#bus.publish(frameKind, encodeFrame({ number, entries }))
    for (const { conv, entry, effects } of entries) this.#remember(conv, entry.seq, number, effects)
  }

  #remember(conv: ConversationId, head: number, number: number, effects: readonly Effect[]): void {
    const joined = this.#recent.get(conv)?.joined ?? new Map<string, number>()
    for (const effect of effects) if (effect.kind === 'member' && effect.record.role !== undefined) joined.set(effect.record.user, number)
    this.#recent.delete(conv)
    this.#recent.set(conv, { head, number, joined })
    if (this.#recent.size <= headsMax) return
    const [oldest, recent] = this.#recent.entries().next().value as [ConversationId, Recent]
    this.#recent.delete(oldest)
    this.#from = Math.max(this.#from, recent.number + 1)
  }

  #tell(what: 'goes on' | 'ends'): void {
    this.#send()
    const heads = [...this.#recent].map(([conv, { head, joined }]) => ({ conv, head, joined: this.#since(joined) }))
    this.#bus.publish(digestKind, encodeDigest({ number: this.#number, from: this.#from, heads, last: what === 'ends' }))
    this.#numbers.push(this.#number)
    if (this.#numbers.length < digestsKept) return
    this.#from = Math.max(this.#from, this.#numbers.shift() as number)
    for (const [conv, { number }] of this.#recent) {
      if (number >= this.#from) return
      this.#recent.delete(conv)
    }
  }

  #since(joined: Map<string, number>): string[] {
    for (const [user, number] of joined) if (number < this.#from) joined.delete(user)
    return [...joined.keys()]
  }

  /** Says good-bye. */
  close(): void {
    clearInterval(this.#timer)
    this.#tell('ends')
  }
}
