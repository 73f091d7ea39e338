/** The small durable map on LMDB. Writes keep their order; those of one turn mostly share a commit. */
import type { KeyValueStore } from '../store.js'
import type { Environment, Table } from './environment.js'
import { lowest, rowsOf } from './rows.js'

const keyBytesMax = 1024

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

  async getAll(keys: readonly string[]): Promise<(Buffer | undefined)[]> {
    this.#environment.assertOpen()
    return keys.map((key) => this.#table.get(keyBytes(key)))
  }

  async put(key: string, value: Buffer): Promise<void> {
    const bytes = keyBytes(key)
    const write = (): void => this.#table.put(bytes, value)
    await this.#environment.commit(write, undefined, value.length)
  }

  async add(key: string, value: Buffer): Promise<boolean> {
    const bytes = keyBytes(key)
    let added = false
    const write = (): void => {
      added = this.#table.get(bytes) === undefined
      if (added) this.#table.put(bytes, value)
    }
    // Inside a transaction: of those that add at the same time the later ones see the first.
    await this.#environment.transact(write, value.length)
    return added
  }

  async remove(key: string): Promise<void> {
    const bytes = keyBytes(key)
    await this.#environment.commit(() => {
      this.#table.remove(bytes)
    })
  }

  async *entries(prefix: string): AsyncIterable<{ key: string; value: Buffer }> {
    const start = Buffer.from(prefix)
    for await (const { key, value } of rowsOf(this.#environment, this.#table, { start: start.length > 0 ? start : lowest })) {
      if (!key.subarray(0, start.length).equals(start)) return
      yield { key: key.toString(), value }
    }
  }
}

function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key)
  if (bytes.length === 0 || bytes.length > keyBytesMax) throw new Error(`a key has 1 to ${keyBytesMax} bytes, not ${bytes.length}`)
  return bytes
}
