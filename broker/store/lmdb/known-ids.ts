/**
 * Tells without asking LMDB that a message id is new: for conversations that are written to, a set of hashes of all their
 * (sender, id). A hash that is not there was never stored; one that is there is looked up. Made when a conversation is first written
 * to, unless it is long already; bounded, and begun anew when full.
 */
import type { ConversationId } from '../../topics.js'
import { hashOfId, IdHashes } from '../id-hashes.js'

export interface KnownIdsLimits {
  /** A conversation with more entries is looked up in the index. */
  ids: number
  idsOfAll: number
  conversations: number
}

const limitsDefault: KnownIdsLimits = { ids: 65_536, idsOfAll: 2_000_000, conversations: 100_000 }
/** A conversation with more entries is not read to make its set. */
export const readIdsMax = 2_048
/** All that is stored of a conversation; undefined when that is too much to read. */
export type ReadIds = (conv: ConversationId) => Iterable<number> | undefined

export class KnownIds {
  /** undefined as a value: too many. */
  readonly #byConv = new Map<ConversationId, IdHashes | undefined>()
  #count = 0
  readonly #read: ReadIds
  readonly #limits: KnownIdsLimits

  constructor(read: ReadIds, limits = limitsDefault) {
    this.#read = read
    this.#limits = limits
  }

  /** Of all conversations; what they hold in memory. */
  get count(): number {
    return this.#count
  }

  /** False: nothing was ever stored under this id. */
  mayHave(conv: ConversationId, from: string, id: string): boolean {
    const known = this.#byConv.get(conv)
    if (known !== undefined) return known.has(hashOfId(from, id))
    if (this.#byConv.has(conv)) return true
    const hashes = this.#make(conv)
    return hashes?.has(hashOfId(from, id)) ?? true
  }

  #make(conv: ConversationId): IdHashes | undefined {
    if (this.#byConv.size >= this.#limits.conversations || this.#count >= this.#limits.idsOfAll) this.#beginAnew()
    const ids = this.#read(conv)
    const hashes = ids === undefined ? undefined : new IdHashes()
    if (ids !== undefined) for (const hash of ids) hashes?.add(hash)
    this.#count += hashes?.count ?? 0
    this.#byConv.set(conv, hashes)
    return hashes
  }

  #beginAnew(): void {
    this.#byConv.clear()
    this.#count = 0
  }

  /** To be told of everything that is stored. */
  add(conv: ConversationId, from: string, id: string): void {
    const known = this.#byConv.get(conv)
    if (known === undefined) return
    if (this.#count >= this.#limits.idsOfAll) return this.#beginAnew()
    const before = known.count
    if (before < this.#limits.ids) {
      known.add(hashOfId(from, id))
      this.#count += known.count - before
    } else {
      this.#count -= before
      this.#byConv.set(conv, undefined)
    }
  }
}
