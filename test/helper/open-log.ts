/** The embedded store in its parts, so that its commits can be made to fail, to wait, or to find little room. */
import { join } from 'node:path'
import { lockDataDir } from '../../broker/store/data-dir.js'
import { LmdbDirectory } from '../../broker/store/lmdb/directory.js'
import { Environment } from '../../broker/store/lmdb/environment.js'
import { newReleased } from '../../broker/store/lmdb/journal.js'
import { LmdbMessageLog } from '../../broker/store/lmdb/message-log.js'
import { Recent } from '../../broker/store/lmdb/recent.js'
import { putReleased, releasedRecord } from '../../broker/store/lmdb/settle.js'
import { type Directory, type MessageLog, StoreUnavailable } from '../../broker/store/store.js'

export interface OpenedLog {
  log: MessageLog
  directory: Directory
  recent: Recent
  /** Called before each commit; what it throws is what the commit rejects with. */
  beforeCommit: () => void | Promise<void>
  /** Given to the settling instead of what is really free. */
  room: number | undefined
  /** Commits that were tried. */
  commits: number
  /** What is durable is then what a crash at this moment would leave, for commits that fail are not done. */
  close(): Promise<void>
}

export const unavailable = (): never => {
  throw new StoreUnavailable('the disk does not take it')
}

export async function openLog(dir: string, generationCostMax: number): Promise<OpenedLog> {
  const lock = await lockDataDir(dir)
  const environment = new Environment({ dir: join(lock.dir, 'store'), mapBytesMax: 1024 ** 4, logger: undefined })
  const table = (name: string) => environment.table(name)
  const directoryTables = { users: table('users'), groups: table('groups'), members: table('members'), rows: table('rows') }
  const tables = { journal: table('journal'), chunks: table('chunks'), sent: table('sent'), retransmits: table('retransmits') }
  if (releasedRecord(tables.journal) === undefined) await environment.commit(() => putReleased(tables.journal, newReleased()))
  const recent = new Recent(generationCostMax)
  const log = new LmdbMessageLog(environment, tables, directoryTables, recent, join(environment.dir, 'journal'))
  const opened: OpenedLog = {
    log,
    directory: new LmdbDirectory(environment, directoryTables, recent, log),
    recent,
    beforeCommit: () => undefined,
    room: undefined,
    commits: 0,
    close: async () => {
      await environment.close()
      await log.close()
      await lock.release()
    },
  }
  const { commit, roomBytes } = environment
  environment.commit = async (work, committed, bytes) => {
    opened.commits++
    await opened.beforeCommit()
    return commit.call(environment, work, committed, bytes)
  }
  environment.roomBytes = (bytes) => opened.room ?? roomBytes.call(environment, bytes)
  await log.restore()
  return opened
}
