/**
 * The embedded store: everything durable of one server in one LMDB environment under the data directory. One process
 * at a time; a write resolves when it is synced to disk.
 */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../../logger.js'
import { OperatorError } from '../../operator-error.js'
import { lockDataDir } from '../data-dir.js'
import type { Store } from '../store.js'
import { LmdbDirectory } from './directory.js'
import { Environment } from './environment.js'
import { newReleased } from './journal.js'
import { LmdbKeyValueStore } from './key-value-store.js'
import { LmdbMessageLog } from './message-log.js'
import { Recent } from './recent.js'
import { LmdbSessionStore } from './session-store.js'
import { putReleased, releasedRecord } from './settle.js'

export interface LmdbStoreOptions {
  /** The data directory; created 0700 if it does not exist. */
  dir: string
  logger?: Logger
  /** Addresses reserved for the database (not disk). Raise it before the log outgrows it. */
  mapBytesMax?: number
  /** About how many messages are kept in memory before they are settled into the tables. Small values make tests meaningful. */
  generationCostMax?: number
  /** Room that must stay free on the disk. */
  freeBytesMin?: number
}

const mapBytesMaxDefault = 1024 ** 4

/** Rejects with one line that says why when the directory cannot be used or is held by another process. */
export async function createLmdbStore(options: LmdbStoreOptions): Promise<Store> {
  const { dir, logger, mapBytesMax = mapBytesMaxDefault, generationCostMax, freeBytesMin } = options
  const lock = await lockDataDir(dir)
  try {
    const environment = new Environment({ dir: join(lock.dir, 'store'), mapBytesMax, logger, freeBytesMin })
    try {
      return await openStore(environment, new Recent(generationCostMax), lock.release)
    } catch (error) {
      await environment.close()
      throw error
    }
  } catch (error) {
    await lock.release()
    throw error
  }
}

/**
 * Writes the data file anew, of a store that no server uses: the disk gets back what is not used any more, and nothing is left in it
 * of what was removed or rewritten. Cut off, it leaves the store as it was.
 */
export async function compactLmdbStore(dir: string): Promise<{ bytesBefore: number; bytes: number }> {
  const file = join(dir, 'store', 'data.mdb')
  if (!existsSync(file)) throw new OperatorError(`there is no store in ${dir}`)
  const bytesBefore = statSync(file).size
  const store = await createLmdbStore({ dir })
  try {
    await store.log.scrub()
  } finally {
    await store.close()
  }
  const lock = await lockDataDir(dir)
  try {
    await new Environment({ dir: join(lock.dir, 'store'), mapBytesMax: mapBytesMaxDefault, logger: undefined }).compact()
  } finally {
    await lock.release()
  }
  return { bytesBefore, bytes: statSync(file).size }
}

async function openStore(environment: Environment, recent: Recent, release: () => Promise<void>): Promise<Store> {
  const table = (name: string) => environment.table(name)
  const directoryTables = { users: table('users'), groups: table('groups'), members: table('members'), rows: table('rows') }
  const retransmits = table('retransmits')
  const logTables = { journal: table('journal'), chunks: table('chunks'), sent: table('sent'), retransmits }
  const sessionTables = { sessions: table('sessions'), cursors: table('cursors'), retransmits }
  if (releasedRecord(logTables.journal) === undefined) await environment.commit(() => putReleased(logTables.journal, newReleased()))
  const log = new LmdbMessageLog(environment, logTables, directoryTables, recent, join(environment.dir, 'journal'))
  await log.restore()
  const directory = new LmdbDirectory(environment, directoryTables, recent, log)
  return {
    isShared: false,
    log,
    directory,
    sessions: new LmdbSessionStore(environment, sessionTables),
    openTopics: new LmdbKeyValueStore(environment, table('open-topics')),
    records: new LmdbKeyValueStore(environment, table('records')),
    check: () => environment.check(),
    close: async () => {
      // One that cannot be written is known again when he connects.
      await directory.flush().catch((error) => environment.report(error))
      await log.noteEnd().catch((error) => environment.report(error))
      await environment.close()
      await log.close()
      await release()
    },
  }
}
