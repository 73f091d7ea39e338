/**
 * Tells without asking MongoDB that a message id is new, for conversations of which this node has written everything. It stays right with
 * other writers: whoever else writes makes the next append here lose, even one that builds on what they wrote, and a conversation that lost
 * is forgotten.
 */
import type { ConversationId } from '../../topics.js'
import type { LogEntry } from '../store.js'

const idsMax = 400_000

const keyOf = (from: string, id: string): string => `${from} ${id}`

export class FreshIds {
  readonly #byConv = new Map<ConversationId, Set<string>>()
  #count = 0

  /** True: (from, id) was not stored, or the append that relies on it will lose. */
  isNew(conv: ConversationId, from: string, id: string): boolean {
    return this.#byConv.get(conv)?.has(keyOf(from, id)) === false
  }

  /** Some id was told to be new because of this. */
  knows(conv: ConversationId): boolean {
    return this.#byConv.has(conv)
  }

  /** An append behind `head` has succeeded. */
  add(conv: ConversationId, head: number, entries: readonly LogEntry[]): void {
    let ids = this.#byConv.get(conv)
    if (ids === undefined) {
      if (head > 0) return
      ids = new Set()
      this.#byConv.set(conv, ids)
    }
    for (const { from, id } of entries) ids.add(keyOf(from, id))
    this.#count += entries.length
    if (this.#count <= idsMax) return
    this.#byConv.clear()
    this.#count = 0
  }

  forget(conv: ConversationId): void {
    this.#count -= this.#byConv.get(conv)?.size ?? 0
    this.#byConv.delete(conv)
  }
}
