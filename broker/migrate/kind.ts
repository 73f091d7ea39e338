/**
 * A kind of things that a store keeps, listed in the order of their keys: made equal in another store, and compared with it, by going
 * over both lists at once. What was copied before costs a read; what is gone from the source goes from the target.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Store } from '../store/store.js'
import { pairs } from './pairs.js'

export interface Definition<T> {
  /** For the operator. */
  name: string
  list(store: Store): AsyncIterable<T>
  keyOf(item: T): string
  /** `before`: what stands under its key. */
  put(store: Store, item: T, before: T | undefined): Promise<void>
  /** Undefined: nothing of this kind ever goes. */
  remove?(store: Store, item: T): Promise<void>
}

export interface Kind {
  readonly name: string
  /** The key of the first item; undefined when there is none. */
  first(store: Store): Promise<string | undefined>
  copy(source: Store, target: Store): Promise<void>
  /** The number of items; `differs` is told of each that is not the same in both. */
  compare(source: Store, target: Store, differs: (what: string) => void): Promise<number>
}

const writesAtOnce = 100

export function createKind<T>({ name, list, keyOf, put, remove }: Definition<T>): Kind {
  const pairsOf = (source: Store, target: Store) => pairs(list(source), list(target), keyOf)
  return {
    name,
    async first(store) {
      for await (const item of list(store)) return keyOf(item)
      return undefined
    },
    async copy(source, target) {
      let writes: (() => Promise<void> | undefined)[] = []
      const write = async (): Promise<void> => {
        await Promise.all(writes.map((each) => each()))
        writes = []
      }
      for await (const { source: item, target: before } of pairsOf(source, target)) {
        if (isDeepStrictEqual(item, before)) continue
        if (item !== undefined) writes.push(() => put(target, item, before))
        else if (before !== undefined) writes.push(() => remove?.(target, before))
        if (writes.length >= writesAtOnce) await write()
      }
      await write()
    },
    async compare(source, target, differs) {
      let count = 0
      for await (const { key, source: item, target: copy } of pairsOf(source, target)) {
        count++
        if (!isDeepStrictEqual(item, copy)) differs(`${name} ${key}`)
      }
      return count
    },
  }
}
