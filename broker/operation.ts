/** What is asked of the log writer: one entry, who sends it, and who is told what became of it. */
import type { Conversation } from './conversation.js'
import type { Refusal } from './errors.js'
import type { Effect, LogEntry, Retransmit } from './store/store.js'
import type { ConversationId } from './topics.js'

/** What one operation writes. */
export interface Plan {
  /** The stored form behind `"seq":…,"ts":…,`, up to its closing brace, as UTF-8. */
  tail: Buffer
  /** What stands before `tail`, when that is not all of it. */
  head?: Buffer
  effects: readonly Effect[]
}

/** A request to append one entry. Exactly one of the four answers is called, once. */
export interface Operation {
  readonly conv: ConversationId
  readonly from: string
  readonly device: string
  /** Message id; the same (conv, from, id) is stored once. */
  readonly id: string
  /** Whether an entry whose stored form ends with this tail is what this one would write: a resend, no conflict. undefined: not compared. */
  isEqual?(tail: Buffer): boolean
  /** Set for a send without an id of its own. */
  readonly retransmit: Retransmit | undefined
  /** It may be the MQTT retransmission (DUP) of an earlier send without id. */
  readonly isRetry: boolean
  /** Seq of an earlier entry that `plan` must see. */
  readonly target: number | undefined
  /** Decides, synchronously, at the head; `seq` is what the entry will have. Called again when the append must be repeated. */
  plan(state: Conversation, seq: number, target: LogEntry | undefined): Plan | Refusal
  stored(entry: LogEntry): void
  /** Already stored as `entry`; the writer has found the contents equal. */
  duplicate(entry: LogEntry): void
  refused(error: Refusal): void
  /** Not written, as far as is known; the client may send it again. */
  failed(why: string): void
}
