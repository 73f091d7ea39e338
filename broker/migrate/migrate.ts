/** `parley migrate`: from the embedded store in PARLEY_DATA_DIR into the database of PARLEY_MONGODB_URL, with a report for the operator. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.js'
import { OperatorError } from '../operator-error.js'
import { createLmdbStore } from '../store/lmdb/lmdb-store.js'
import { createMongodbStore } from '../store/mongodb/mongodb-store.js'
import type { Store } from '../store/store.js'
import { copyStore } from './copy-store.js'
import type { Comparison } from './verify.js'

/** Moves what a plugin keeps beside the store. It may be repeated, and changes nothing that is done; throws an OperatorError when it cannot be. */
export type Move = (world: MoveWorld) => Promise<void>

export interface MoveWorld {
  /** Of the old server, with what is new for the cluster. */
  config: Config
  source: Store
  /** Told now and then what is done. */
  progress(line: string): void
  print(line: string): void
}

export interface Migration {
  config: Config
  mongodbUrl: string
  moves: readonly Move[]
  /** Lines for the operator. */
  print(line: string): void
}

const progressMs = 1_000

/** Rejects with an OperatorError when it cannot be done, or the copy is not equal. */
export async function migrate({ config, mongodbUrl, moves, print }: Migration): Promise<void> {
  const { dataDir } = config
  // To open it would make one.
  if (!existsSync(join(dataDir, 'store')))
    throw new OperatorError(`there is no store in ${dataDir}: set PARLEY_DATA_DIR to the data directory of the server`)
  const source = await createLmdbStore({ dir: dataDir })
  try {
    // First: a copy that is whole has everything.
    for (const move of moves) await move({ config, source, progress: throttled(print), print })
    const target = await createMongodbStore(mongodbUrl)
    try {
      report(await copyStore({ source, target, progress: throttled(print) }), print)
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
  const secret = join(dataDir, 'jwt-secret')
  if (existsSync(secret))
    print(`Tokens are signed with the generated secret: give its text to every node as PARLEY_JWT_SECRET. It is in ${secret}`)
  print('Start the nodes on MongoDB, and the old server never again: what it stored from now on would not be in the copy.')
}

function throttled(print: (line: string) => void): (line: string) => void {
  let last = Number.NEGATIVE_INFINITY
  return (line) => {
    const now = performance.now()
    if (now - last < progressMs) return
    last = now
    print(line)
  }
}

function report({ counts, differences, differing }: Comparison, print: (line: string) => void): void {
  const found = [...counts].map(([name, count]) => `${count} ${name}`).join(', ')
  if (differing === 0) return print(`Copied and compared, all equal: ${found}.`)
  const more = differing > differences.length ? [`and ${differing - differences.length} more`] : []
  throw new OperatorError(
    [`Of ${found}, ${differing} are not equal in the copy, which is not to be used:`, ...differences, ...more].join('\n  - '),
  )
}
