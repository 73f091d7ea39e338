/** The small durable map on LMDB. Writes keep their order; those of one turn mostly share a commit. */
import type { KeyValueStore } from '../store.js'
import type { Environment, Table } from './environment.js'

const keyBytesMax = 1024
/** Pairs read at once: an iteration never holds a snapshot while its caller waits. */
const pageMax = 256

export class LmdbKeyValueStore implements KeyValueStore {
  readonly #environment: Environment
  readonly #table: Table

  constructor(environment: Environment, table: Table) {
    this.#environment = environment
    this.#table = table
  }

  async get(key: string): Promise<Buffer | undefined> {
    this.#environment.assertOpen()
    return this.#table.get(keyBytes(key))
  }

  async put(key: string, value: Buffer): Promise<void> {
    const bytes = keyBytes(key)
    const write = (): void => this.#table.put(bytes, value)
    await this.#environment.commit(write, undefined, value.length)
  }

  async remove(key: string): Promise<void> {
    const bytes = keyBytes(key)
    await this.#environment.commit(() => {
      this.#table.remove(bytes)
    })
  }

  async *entries(prefix: string): AsyncIterable<{ key: string; value: Buffer }> {
    const start = Buffer.from(prefix)
    let after: Buffer | undefined
    for (;;) {
      this.#environment.assertOpen()
      const from = after ?? (start.length > 0 ? start : Buffer.from([0]))
      const page = [...this.#table.getRange({ start: from, exclusiveStart: after !== undefined, limit: pageMax })]
      for (const { key, value } of page) {
        if (!key.subarray(0, start.length).equals(start)) return
        yield { key: key.toString(), value }
      }
      after = page.at(-1)?.key
      if (page.length < pageMax) return
    }
  }
}

function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key)
  if (bytes.length === 0 || bytes.length > keyBytesMax) throw new Error(`a key has 1 to ${keyBytesMax} bytes, not ${bytes.length}`)
  return bytes
}
