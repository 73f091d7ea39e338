/**
 * Tells without asking LMDB that a message id is new: for conversations that are written to, a set of hashes of all their
 * (sender, id). A hash that is not there was never stored; one that is there is looked up. Made when a conversation is first written
 * to, unless it is long already; bounded, and begun anew when full.
 */
import type { ConversationId } from '../../topics.js'

export interface KnownIdsLimits {
  /** A conversation with more entries is looked up in the index. */
  ids: number
  idsOfAll: number
  conversations: number
}

const limitsDefault: KnownIdsLimits = { ids: 65_536, idsOfAll: 2_000_000, conversations: 100_000 }
/** A conversation with more entries is not read to make its set. */
export const readIdsMax = 2_048
const slotsMin = 16
const asciiMax = 127
/** As in the keys: begins a part that is not ASCII. */
const wideMark = 0xff
const hashStart = 0x811c9dc5
const hashPrime = 0x01000193

/** All that is stored of a conversation; undefined when that is too much to read. */
export type ReadIds = (conv: ConversationId) => Iterable<number> | undefined

const mix = (hash: number, byte: number): number => Math.imul(hash ^ byte, hashPrime)

function mixPart(hash: number, text: string): number {
  let mixed = hash
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > asciiMax) return mixWide(hash, text)
    mixed = mix(mixed, code)
  }
  return mixed
}

function mixWide(hash: number, text: string): number {
  let mixed = mix(hash, wideMark)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    mixed = mix(mix(mixed, code & 0xff), code >> 8)
  }
  return mixed
}

/** Never 0, which marks an empty slot. */
const finish = (hash: number): number => (hash ^ (hash >>> 15)) >>> 0 || 1

export const hashOfId = (from: string, id: string): number => finish(mixPart(mix(mixPart(hashStart, from), 0), id))

/** The same from a key of the index, whose conversation ends before `start`. */
export function hashOfKey(key: Buffer, start: number): number {
  let hash = hashStart
  for (let i = start; i < key.length; i++) hash = mix(hash, key[i] as number)
  return finish(hash)
}

class Hashes {
  count = 0
  #slots = new Uint32Array(slotsMin)

  has(hash: number): boolean {
    const mask = this.#slots.length - 1
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const found = this.#slots[at]
      if (found === hash) return true
      if (found === 0) return false
    }
  }

  add(hash: number): void {
    if ((this.count + 1) * 2 > this.#slots.length) this.#grow()
    this.#put(hash)
  }

  #put(hash: number): void {
    const mask = this.#slots.length - 1
    let at = hash & mask
    while (this.#slots[at] !== 0) {
      if (this.#slots[at] === hash) return
      at = (at + 1) & mask
    }
    this.#slots[at] = hash
    this.count++
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new Uint32Array(old.length * 2)
    this.count = 0
    for (const hash of old) if (hash !== 0) this.#put(hash)
  }
}

export class KnownIds {
  /** undefined as a value: too many. */
  readonly #byConv = new Map<ConversationId, Hashes | undefined>()
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

  #make(conv: ConversationId): Hashes | undefined {
    if (this.#byConv.size >= this.#limits.conversations || this.#count >= this.#limits.idsOfAll) this.#beginAnew()
    const ids = this.#read(conv)
    const hashes = ids === undefined ? undefined : new Hashes()
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
