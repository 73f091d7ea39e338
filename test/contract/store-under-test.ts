/** What a contract suite is run on: a fresh, empty store, torn down by the test that opened it. */
import type { Test } from 'tap'
import type { Store } from '../../broker/store/store.js'

export interface StoreUnderTest {
  store: Store
  /** Closes the store and opens it again on the same data; replaces `store`. */
  reopen(): Promise<Store>
}

export type OpenStore = (t: Test) => Promise<StoreUnderTest>

/** The store as it is, then once more after it was closed and opened again. */
export async function* nowAndReopened(tested: StoreUnderTest): AsyncGenerator<Store> {
  yield tested.store
  yield await tested.reopen()
}

export async function listOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
