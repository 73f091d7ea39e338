/**
 * The connection to the MongoDB server. Every call goes through `run`, so that whatever the driver rejects with becomes
 * StoreUnavailable, within a bounded time. Writes are acknowledged by a majority with the journal; reads see what a majority has.
 */
import {
  type AnyBulkWriteOperation,
  type Collection,
  type Document,
  type Filter,
  MongoBulkWriteError,
  MongoClient,
  MongoError,
  MongoServerError,
  type OptionalUnlessRequiredId,
} from 'mongodb'
import { OperatorError } from '../../operator-error.js'
import { StoreUnavailable } from '../store.js'
import { type Collections, collectionsOf } from './collections.js'
import './driver-patch.js'

const databaseDefault = 'parley'
const answerMsMax = 10_000
const selectMsMax = 5_000
const poolMax = 32
const ferretPoolMax = 8
/** Documents that are asked for by name in one command. */
const namedMax = 1_000
/** The same, one by one; of more FerretDB reads the whole collection sooner than each of them. */
const singlyMax = 16
const namedMin = 128
const upsertTries = 3
/**
 * FerretDB 1 on SQLite answers a command of 90 updates and never one of 110, nor four of 50 at a time, as if each update held a connection of its
 * pool until the command ends. So there a node has few commands at a time, one of them with many updates, and few updates in it: four
 * nodes stay below the hundred.
 */
const ferretWritesMax = 16
const duplicateKey = 11_000

/** Which documents of an unordered insert were refused for their name or an id; undefined when anything else went wrong. */
function refusedOf(error: unknown): number[] | undefined {
  if (!(error instanceof MongoBulkWriteError) || error.result.getWriteConcernError() !== undefined) return undefined
  const faults = [error.writeErrors].flat()
  return faults.length > 0 && faults.every(({ code }) => code === duplicateKey) ? faults.map(({ index }) => index) : undefined
}

export const isDuplicateKey = (error: unknown): boolean => error instanceof MongoServerError && error.code === duplicateKey

export class MongodbServer {
  readonly collections: Collections
  readonly #client: MongoClient
  readonly #hasIndexes: boolean
  #lastBulk: Promise<void> = Promise.resolve()
  #closed = false

  private constructor(client: MongoClient, databaseName: string, hasIndexes: boolean) {
    this.#client = client
    this.#hasIndexes = hasIndexes
    this.collections = collectionsOf(client.db(databaseName))
  }

  /** Rejects with StoreUnavailable when there is no server. `asMongodb`: it gets the commands of MongoDB, whatever it says that it is. */
  static async connect(url: string, asMongodb: boolean, observe?: (command: string) => void): Promise<MongodbServer> {
    const isFerret = await isFerretAt(url)
    const client = clientOf(url, isFerret ? ferretPoolMax : poolMax, observe !== undefined)
    if (observe !== undefined) client.on('commandSucceeded', ({ commandName }) => observe(commandName))
    return new MongodbServer(client, databaseOf(url), asMongodb || !isFerret)
  }

  /** False for FerretDB 1 on SQLite, which finds only a single _id without reading the whole collection. */
  get hasIndexes(): boolean {
    return this.#hasIndexes
  }

  /** Of what `work` rejects with only what the driver has no part in stays as it is. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new StoreUnavailable('the store is closed')
    return orUnavailable(work)
  }

  /** As `run`, for inserts and upserts of which those that are there already are left as they are. */
  async runUnlessThere(work: () => Promise<unknown>): Promise<void> {
    await this.run(async () => {
      try {
        await work()
      } catch (error) {
        if (!isDuplicateKey(error)) throw error
      }
    })
  }

  /** Inserts at once what is not there yet, and returns the places of those that are. */
  insertNew<T extends { _id: string }>(collection: Collection<T>, documents: readonly T[]): Promise<number[]> {
    return this.run(async () => {
      try {
        await collection.insertMany(documents as OptionalUnlessRequiredId<T>[], { ordered: false })
        return []
      } catch (error) {
        const refused = refusedOf(error)
        if (refused === undefined) throw error
        return refused
      }
    })
  }

  /** All writes; in one command, unless the server does not bear it. Rejects as the driver does. */
  async bulk<T extends Document>(collection: Collection<T>, writes: readonly AnyBulkWriteOperation<T>[]): Promise<void> {
    const order = { ordered: false }
    if (this.#hasIndexes) return void (await collection.bulkWrite([...writes], order))
    const written = this.#lastBulk.then(async () => {
      for (let at = 0; at < writes.length; at += ferretWritesMax) await collection.bulkWrite(writes.slice(at, at + ferretWritesMax), order)
    })
    this.#lastBulk = written.catch(nothing)
    await written
  }

  /** As `run`, for upserts. Of two nodes that make the same document at once one is told so, and finds it the next time. */
  async runUpsert(write: () => Promise<unknown>): Promise<void> {
    await this.run(async () => {
      for (let left = upsertTries; ; left--) {
        try {
          await write()
          return
        } catch (error) {
          if (left <= 1 || !isDuplicateKey(error)) throw error
        }
      }
    })
  }

  /** The documents of these names that exist, by name. Of each only what `projection` says. */
  async findNamed<T extends { _id: string }>(
    collection: Collection<T>,
    ids: readonly string[],
    projection: Document = {},
  ): Promise<Map<string, T>> {
    if (ids.length === 0) return new Map()
    const isTogether = this.#hasIndexes || ids.length >= namedMin
    // In one answer: of an unknown number the server gives the first hundred and has to be asked again.
    const together = (some: readonly string[]) =>
      collection.find({ _id: { $in: some } } as unknown as Filter<T>, { projection, batchSize: some.length + 1 }).toArray()
    const singly = (some: readonly string[]) =>
      Promise.all(some.map((_id) => collection.findOne({ _id } as unknown as Filter<T>, { projection })))
    const found = new Map<string, T>()
    const take = (documents: readonly unknown[]): void => {
      for (const document of documents as (T | null)[]) if (document !== null) found.set(document._id, document)
    }
    if (!isTogether) for (const some of parts(ids, singlyMax)) take(await this.run(() => singly(some)))
    else await Promise.all(parts(ids, namedMax).map(async (some) => take(await this.run(() => together(some)))))
    return found
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#client.close()
  }
}

function parts(ids: readonly string[], size: number): (readonly string[])[] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, at) => ids.slice(at * size, (at + 1) * size))
}

async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof MongoError) throw new StoreUnavailable(`MongoDB: ${error.message}`, { cause: error })
    throw error
  }
}

/** Asked over a connection of its own: how many the client may have depends on it. */
async function isFerretAt(url: string): Promise<boolean> {
  const client = clientOf(url, 1)
  try {
    const found = await orUnavailable(() => client.db('admin').command({ buildInfo: 1 }))
    return 'ferretdb' in found || 'ferretdbVersion' in found
  } finally {
    await client.close()
  }
}

/** Throws OperatorError for a URL that is none. */
function clientOf(url: string, maxPoolSize: number, monitorCommands = false): MongoClient {
  try {
    return new MongoClient(url, {
      appName: 'parley',
      serverSelectionTimeoutMS: selectMsMax,
      connectTimeoutMS: selectMsMax,
      socketTimeoutMS: answerMsMax,
      waitQueueTimeoutMS: answerMsMax,
      maxPoolSize,
      minPoolSize: 0, // One in the URL may be above it, which the driver refuses.
      monitorCommands,
      retryWrites: true,
      writeConcern: { w: 'majority', journal: true, wtimeoutMS: answerMsMax },
      readConcern: { level: 'majority' },
      readPreference: 'primary',
      ignoreUndefined: true,
      promoteBuffers: false,
    })
  } catch (error) {
    throw new OperatorError(`PARLEY_MONGODB_URL cannot be used: ${(error as Error).message}`, { cause: error })
  }
}

function databaseOf(url: string): string {
  const [, name = ''] = /^mongodb(?:\+srv)?:\/\/[^/]+\/([^?]*)/.exec(url) ?? []
  return name === '' ? databaseDefault : decodeURIComponent(name)
}

const nothing = (): void => undefined
