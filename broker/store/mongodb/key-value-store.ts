/**
 * The small durable map on MongoDB. Strings are ordered by their bytes there. What is written while one command is under way shares the next, in
 * order; so does what is read at the same moment.
 */
import { Binary, type Collection } from 'mongodb'
import type { KeyValueStore } from '../store.js'
import { bytesOf, type PairDocument } from './collections.js'
import { isDuplicateKey, type MongodbServer } from './server.js'
import { Together } from './together.js'

const keyBytesMax = 1024
const pageMax = 1_000
const batchMax = 200
/** More make a command of their own. */
const sharedMax = 16
const batchBytesMax = 8 * 1024 * 1024
const last = '\u{10ffff}'

interface Write {
  key: string
  /** undefined: is removed. */
  value: Buffer | undefined
  resolve(): void
  reject(error: unknown): void
}

export class MongodbKeyValueStore implements KeyValueStore {
  readonly #server: MongodbServer
  readonly #pairs: Collection<PairDocument>
  readonly #values: Together<string, Buffer | undefined>
  #waiting: Write[] = []
  #running = false

  constructor(server: MongodbServer, pairs: Collection<PairDocument>) {
    this.#server = server
    this.#pairs = pairs
    this.#values = new Together((keys) => this.#read(keys))
  }

  async get(key: string): Promise<Buffer | undefined> {
    return this.#values.ask(checked(key))
  }

  async getAll(keys: readonly string[]): Promise<(Buffer | undefined)[]> {
    const names = keys.map(checked)
    return names.length > sharedMax ? this.#read(names) : Promise.all(names.map((name) => this.#values.ask(name)))
  }

  async #read(keys: readonly string[]): Promise<(Buffer | undefined)[]> {
    const found = await this.#server.findNamed(this.#pairs, [...new Set(keys)])
    return keys.map((key) => {
      const pair = found.get(key)
      return pair === undefined ? undefined : bytesOf(pair.value)
    })
  }

  async put(key: string, value: Buffer): Promise<void> {
    await this.#add(checked(key), value)
  }

  async add(key: string, value: Buffer): Promise<boolean> {
    const document = { _id: checked(key), value: new Binary(value) }
    return this.#server.run(async () => {
      try {
        await this.#pairs.insertOne(document)
        return true
      } catch (error) {
        if (!isDuplicateKey(error)) throw error
        return false
      }
    })
  }

  async remove(key: string): Promise<void> {
    await this.#add(checked(key), undefined)
  }

  #add(key: string, value: Buffer | undefined): Promise<void> {
    const written = new Promise<void>((resolve, reject) => this.#waiting.push({ key, value, resolve, reject }))
    if (!this.#running) {
      this.#running = true
      setImmediate(() => this.#loop())
    }
    return written
  }

  async #loop(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#take()
      try {
        await this.#server.run(() => this.#write(batch))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#running = false
  }

  #take(): Write[] {
    let count = 0
    for (let bytes = 0; count < this.#waiting.length && count < batchMax && bytes < batchBytesMax; count++) {
      bytes += this.#waiting[count]?.value?.length ?? 0
    }
    return this.#waiting.splice(0, count)
  }

  async #write(batch: readonly Write[]): Promise<void> {
    const lastOfKey = new Map(batch.map(({ key, value }) => [key, value]))
    const writes = [...lastOfKey].map(([_id, value]) =>
      value === undefined
        ? { deleteOne: { filter: { _id } } }
        : { updateOne: { filter: { _id }, update: { $set: { value: new Binary(value) } }, upsert: true } },
    )
    try {
      await this.#server.bulk(this.#pairs, writes)
    } catch (error) {
      // Of two nodes that make the same key at once one is told so, and then finds it.
      if (!isDuplicateKey(error)) throw error
      await this.#server.bulk(this.#pairs, writes)
    }
  }

  async *entries(prefix: string): AsyncIterable<{ key: string; value: Buffer }> {
    const filter = { _id: { $gte: prefix, $lt: `${prefix}${last}${last}` } }
    const cursor = this.#pairs.find(filter, { sort: { _id: 1 }, batchSize: pageMax })
    try {
      for (;;) {
        const pair = await this.#server.run(() => cursor.next())
        if (pair === null) return
        yield { key: pair._id, value: bytesOf(pair.value) }
      }
    } finally {
      await cursor.close()
    }
  }
}

function checked(key: string): string {
  const bytes = Buffer.byteLength(key)
  if (bytes === 0 || bytes > keyBytesMax) throw new Error(`a key has 1 to ${keyBytesMax} bytes, not ${bytes}`)
  return key
}
