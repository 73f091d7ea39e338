/**
 * Appends that failed and may have been written all the same: a commit that was late, an answer that got lost. The log writer notes
 * them, and asks when it next looks at the conversation; what the log then has beyond is dispatched like any entry, so that no
 * live session misses a message that is stored.
 */
import type { Effect, LogEntry, MessageLog } from './store/store.js'
import type { ConversationId } from './topics.js'

interface Doubt {
  /** All entries up to this one were dispatched. */
  head: number
  /** By message id; the log does not keep them. */
  effects: Map<string, readonly Effect[]>
}

export interface Attempt {
  entry: LogEntry
  effects: readonly Effect[]
}

/** Conversations; the oldest is forgotten, and its sessions hear of a late entry when they come back. */
const doubtsMax = 100_000
const readMax = 1_000

export class Doubts {
  readonly #byConv = new Map<ConversationId, Doubt>()

  get size(): number {
    return this.#byConv.size
  }

  has(conv: ConversationId): boolean {
    return this.#byConv.has(conv)
  }

  /** With this head the log shows what was not dispatched. */
  isBehind(conv: ConversationId, head: number): boolean {
    const doubt = this.#byConv.get(conv)
    return doubt !== undefined && doubt.head < head
  }

  conversations(): ConversationId[] {
    return [...this.#byConv.keys()]
  }

  /** The append at `head` failed. Repeated attempts have the same ids. */
  note(conv: ConversationId, head: number, attempts: readonly Attempt[]): void {
    const doubt = this.#byConv.get(conv) ?? { head, effects: new Map<string, readonly Effect[]>() }
    for (const { entry, effects } of attempts) if (effects.length > 0) doubt.effects.set(entry.id, effects)
    this.#byConv.set(conv, doubt)
    if (this.#byConv.size <= doubtsMax) return
    for (const oldest of this.#byConv.keys()) {
      this.#byConv.delete(oldest)
      break
    }
  }

  /** What was written after all, in order; each entry is given once. */
  async resolve(conv: ConversationId, head: number, log: MessageLog): Promise<Attempt[]> {
    const doubt = this.#byConv.get(conv)
    const found: Attempt[] = []
    while (doubt !== undefined && doubt.head < head) {
      const entries = await log.read(conv, doubt.head + 1, head, readMax)
      if (entries.length === 0) throw new Error(`the log of ${conv} has no entry ${doubt.head + 1}, though its head is ${head}`)
      for (const entry of entries) found.push({ entry, effects: doubt.effects.get(entry.id) ?? [] })
      doubt.head = (entries.at(-1) as LogEntry).seq
    }
    return found
  }

  /** An append at the head known to the writer succeeded, so nothing else was written. */
  settle(conv: ConversationId): void {
    this.#byConv.delete(conv)
  }
}
