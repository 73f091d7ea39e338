/**
 * The store of a cluster: everything durable in one MongoDB database that all nodes share. A write resolves when a majority has it in
 * its journal. At start the indexes are made, and a database of another schema is refused.
 */
import { OperatorError } from '../../operator-error.js'
import { type Store, StoreUnavailable } from '../store.js'
import { Applied } from './applied.js'
import { createExpiry, createIndexes } from './collections.js'
import { MongodbDirectory } from './directory.js'
import { MongodbKeyValueStore } from './key-value-store.js'
import { MongodbMessageLog } from './message-log.js'
import { MongodbServer } from './server.js'
import { MongodbSessionStore } from './session-store.js'

const schema = 2

export interface MongodbStoreOptions {
  /** For tests: a server that stands in for MongoDB gets the commands that MongoDB would get. */
  asMongodb?: boolean
  /** For tests: called with the name of each command that was answered. */
  observeCommand?: (name: string) => void
}

/** Rejects with one line that says why when the server cannot be reached or its database cannot be used. `url` may name the database; `parley` otherwise. */
export async function createMongodbStore(url: string, { asMongodb = false, observeCommand }: MongodbStoreOptions = {}): Promise<Store> {
  const server = await MongodbServer.connect(url, asMongodb, observeCommand).catch(tellOperator)
  try {
    await checkSchema(server)
    await server.run(() => createIndexes(server.collections))
    if (server.hasIndexes && !asMongodb) await server.run(() => createExpiry(server.collections))
  } catch (error) {
    await server.close()
    return tellOperator(error)
  }
  const applied = new Applied(server)
  return {
    isShared: true,
    log: new MongodbMessageLog(server, applied),
    directory: new MongodbDirectory(server, applied),
    sessions: new MongodbSessionStore(server),
    openTopics: new MongodbKeyValueStore(server, server.collections.openTopics),
    records: new MongodbKeyValueStore(server, server.collections.records),
    check: async () => {
      await server.runUpsert(() => server.collections.meta.updateOne({ _id: 'check' }, { $set: { ts: Date.now() } }, { upsert: true }))
    },
    close: () => server.close(),
  }
}

function tellOperator(error: unknown): never {
  if (!(error instanceof StoreUnavailable)) throw error
  throw new OperatorError(`the server of PARLEY_MONGODB_URL cannot be used: ${error.message}`, { cause: error })
}

async function checkSchema(server: MongodbServer): Promise<void> {
  const { meta } = server.collections
  await server.runUnlessThere(() => meta.insertOne({ _id: 'schema', version: schema }))
  const found = await server.run(() => meta.findOne({ _id: 'schema' }))
  if (found?.version === schema) return
  throw new OperatorError(
    `the database of PARLEY_MONGODB_URL has schema ${String(found?.version)}, this version of Parley knows schema ${schema}: start the version that wrote it, or name another database`,
  )
}
