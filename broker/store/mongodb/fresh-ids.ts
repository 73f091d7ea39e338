/**
 * Tells without asking MongoDB that a message id is new: of conversations that this node writes to it keeps a set of hashes of all ids up to
 * some entry. It stays right with other writers: an append behind any other entry than that one is not made before the set has been
 * brought there. What other nodes tell of their entries mostly does that.
 */
import type { ConversationId } from '../../topics.js'
import { hashOfId, IdHashes } from '../id-hashes.js'
import type { LogEntry } from '../store.js'

export interface FreshIdsLimits {
  /** A conversation with more entries is looked up in the index. */
  ids: number
  idsOfAll: number
  conversations: number
}

const limitsDefault: FreshIdsLimits = { ids: 65_536, idsOfAll: 2_000_000, conversations: 100_000 }

interface Known {
  hashes: IdHashes
  /** All ids up to this entry are in the set. */
  head: number
  /** An append behind this entry has lost; 0 where none has. */
  lostAt: number
}

type SentId = Pick<LogEntry, 'from' | 'id'>

export class FreshIds {
  readonly #limits: FreshIdsLimits
  /** Least recently made first. undefined as a value: too many. */
  readonly #byConv = new Map<ConversationId, Known | undefined>()
  #count = 0

  constructor(limits = limitsDefault) {
    this.#limits = limits
  }

  /** True: (from, id) is not among the entries up to `headOf`. */
  isNew(conv: ConversationId, from: string, id: string): boolean {
    return this.#byConv.get(conv)?.hashes.has(hashOfId(from, id)) === false
  }

  /** Up to which entry the ids are known; undefined: none are. */
  headOf(conv: ConversationId): number | undefined {
    return this.#byConv.get(conv)?.head
  }

  /** Nothing is known of it, and it is not known to be too long. */
  isUnknown(conv: ConversationId): boolean {
    return !this.#byConv.has(conv)
  }

  /** From now on: the conversation has no entries. */
  begin(conv: ConversationId): void {
    this.forget(conv)
    this.#byConv.set(conv, { hashes: new IdHashes(), head: 0, lostAt: 0 })
    for (const oldest of this.#byConv.keys()) {
      if (this.#byConv.size <= this.#limits.conversations) break
      this.forget(oldest)
    }
  }

  tooLong(conv: ConversationId): void {
    this.forget(conv)
    this.#byConv.set(conv, undefined)
  }

  /** These are the entries behind `head`. Ignored where they do not follow what is known. */
  add(conv: ConversationId, head: number, entries: readonly SentId[]): void {
    const known = this.#byConv.get(conv)
    if (known === undefined || known.head !== head) return
    const before = known.hashes.count
    for (const { from, id } of entries) known.hashes.add(hashOfId(from, id))
    known.head += entries.length
    this.#count += known.hashes.count - before
    if (known.hashes.count > this.#limits.ids) this.tooLong(conv)
    for (const oldest of this.#byConv.keys()) {
      if (this.#count <= this.#limits.idsOfAll) break
      this.forget(oldest)
    }
  }

  /** An append behind `head` was refused. The second time it was not for its place, but for an id that the set should have had. */
  lost(conv: ConversationId, head: number): void {
    const known = this.#byConv.get(conv)
    if (known?.head !== head) return
    if (known.lostAt === head && head > 0) this.tooLong(conv)
    else known.lostAt = head
  }

  forget(conv: ConversationId): void {
    this.#count -= this.#byConv.get(conv)?.hashes.count ?? 0
    this.#byConv.delete(conv)
  }
}
