/** Two lists that are ordered by the same key, side by side: what both have comes as one pair, what one has alone as half of one. */

export interface Pair<T> {
  key: string
  source: T | undefined
  target: T | undefined
}

export async function* pairs<T>(source: AsyncIterable<T>, target: AsyncIterable<T>, keyOf: (item: T) => string): AsyncGenerator<Pair<T>> {
  const left = new Side(source, keyOf)
  const right = new Side(target, keyOf)
  try {
    await left.advance()
    await right.advance()
    while (left.item !== undefined || right.item !== undefined) {
      const order = compare(left, right)
      const key = order <= 0 ? left.key : right.key
      yield { key, source: order <= 0 ? left.item : undefined, target: order >= 0 ? right.item : undefined }
      if (order <= 0) await left.advance()
      if (order >= 0) await right.advance()
    }
  } finally {
    await left.close()
    await right.close()
  }
}

class Side<T> {
  item: T | undefined
  key = ''
  readonly #items: AsyncIterator<T>
  readonly #keyOf: (item: T) => string

  constructor(items: AsyncIterable<T>, keyOf: (item: T) => string) {
    this.#items = items[Symbol.asyncIterator]()
    this.#keyOf = keyOf
  }

  async advance(): Promise<void> {
    const { done, value } = await this.#items.next()
    this.item = done === true ? undefined : value
    if (this.item !== undefined) this.key = this.#keyOf(this.item)
  }

  async close(): Promise<void> {
    await this.#items.return?.()
  }
}

/** By the bytes of the keys, as stores order them; a side that has ended is behind everything. */
function compare<T>(left: Side<T>, right: Side<T>): number {
  if (left.item === undefined) return 1
  if (right.item === undefined) return -1
  return Buffer.compare(Buffer.from(left.key), Buffer.from(right.key))
}
