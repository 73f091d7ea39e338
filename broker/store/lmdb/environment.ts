/**
 * The LMDB environment under the store: its tables, and the only ways to write. Guarantees: a write that resolves
 * is synced to disk; one that rejects with StoreUnavailable has changed nothing, unless it says that its outcome is
 * unknown, and then every later write is refused until it is known. No rejection of LMDB stays unhandled.
 */
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { Logger } from '../../logger.js'
import { makeDir } from '../../make-dir.js'
import { OperatorError } from '../../operator-error.js'
import { StoreUnavailable } from '../store.js'
import { plainKey } from './keys.js'

/** What the store uses of an LMDB table. Writes are only called inside `commit` or `transact`, whose promise covers them. */
export interface Table {
  get(key: Buffer): Buffer | undefined
  put(key: Buffer, value: Buffer): void
  remove(key: Buffer): void
  getRange(range: KeyRange): Iterable<{ key: Buffer; value: Buffer }>
  getKeys(range: KeyRange): Iterable<Buffer>
}

/** From `start` (inclusive, unless exclusive) to before `end`; in `reverse`, `start` is the upper one. */
export interface KeyRange {
  start: Buffer
  end?: Buffer
  exclusiveStart?: boolean
  reverse?: boolean
  limit?: number
}

export interface EnvironmentOptions {
  /** Directory of the database alone; created 0700. */
  dir: string
  /** Addresses reserved for the file, not disk: the file grows as it is filled. */
  mapBytesMax: number
  logger: Logger | undefined
  /** With less room than this on the disk nothing is written; by default an eighth of the disk, at most 32 MiB. */
  freeBytesMin?: number | undefined
}

/** A disk that does not answer for so long is reported; the commit itself goes on and decides what happens to it. */
const commitMsMax = 30_000
const freeBytesLeast = 256 * 1024
const freeBytesMost = 32 * 1024 * 1024
const freeShare = 8
const growthMax = 4
const schema = 2
const tablesMax = 16
/**
 * With batches of its own for each turn, LMDB keeps a promise to itself whose rejection nobody can handle. The threshold
 * (writes after which a commit begins before the turn is over) is missing from its types.
 */
const batching = { eventTurnBatching: false, txnStartThreshold: 1_000_000 }

export class Environment {
  readonly dir: string
  readonly #root: RootDatabase<Buffer, Buffer>
  readonly #meta: Database<Buffer, Buffer>
  readonly #file: string
  readonly #inode: number
  readonly #logger: Logger | undefined
  readonly #freeBytesMin: number
  readonly #pending = new Set<Promise<unknown>>()
  /** A commit that has not answered in time. */
  #stuck: string | undefined
  #closed = false

  constructor({ dir, mapBytesMax, logger, freeBytesMin }: EnvironmentOptions) {
    this.dir = dir
    this.#logger = logger
    makeDir(dir)
    this.#freeBytesMin = freeBytesMin ?? freeBytesOf(dir)
    assertLmdbFile(join(dir, 'data.mdb'))
    const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
    this.#root = open<Buffer, Buffer>({
      path: dir,
      mapSize: mapBytesMax,
      maxDbs: tablesMax,
      // A promise of LMDB resolves only when the commit is synced.
      overlappingSync: false,
      ...batching,
      ...binary,
    })
    this.#file = join(dir, 'data.mdb')
    this.#inode = statSync(this.#file).ino
    this.#meta = this.#root.openDB<Buffer, Buffer>({ name: 'meta', encoding: 'binary', keyEncoding: 'binary' })
    this.#checkSchema()
  }

  /** Opens or creates a table with binary keys and values. */
  table(name: string): Table {
    return this.#root.openDB<Buffer, Buffer>({ name, encoding: 'binary', keyEncoding: 'binary' })
  }

  #checkSchema(): void {
    const found = this.#meta.get(plainKey('schema'))
    if (found === undefined) return void this.#meta.putSync(Buffer.from(plainKey('schema')), Buffer.from(String(schema)))
    if (found.toString() === String(schema)) return
    void this.#root.close()
    throw new OperatorError(
      `the store in ${this.dir} has schema ${found.toString().slice(0, 20)}, this version of Parley knows schema ${schema}: start the version that wrote it, or use another data directory`,
    )
  }

  /** Throws StoreUnavailable unless the store can be read. */
  assertOpen(): void {
    if (this.#closed) throw new StoreUnavailable(`the store in ${this.dir} is closed`)
  }

  /**
   * Commits all puts and removes that `work` makes, in one transaction.
   * `work` runs at once, sees only what is committed, and must not throw after its first write. `committed` is called when
   * the commit has succeeded, before the promise resolves; also when that rejected because it took too long. `bytes`: about
   * what `work` puts, when that is much.
   */
  commit(work: () => void, committed: () => void = nothing, bytes = 0): Promise<void> {
    return this.#write(() => this.#root.batch(work).then(committed), bytes)
  }

  /** Runs `work` inside a write transaction: it sees every write made before it. For what reads before it writes. */
  transact(work: () => void, bytes = 0): Promise<void> {
    return this.#write(() => this.#root.transaction(work), bytes)
  }

  /** Another write to the same disk, of about so many bytes, under the same rules as a commit. */
  write(start: () => Promise<unknown>, bytes: number): Promise<void> {
    return this.#write(start, bytes)
  }

  /** For what goes on beside the calls of others and has nobody to tell: a store that cannot be written now is no news. */
  report(error: unknown): void {
    if (!(error instanceof StoreUnavailable)) this.#logger?.error({ err: error }, 'a fault of the store')
  }

  /** Rejects unless a write can be committed now and there is room for more. */
  async check(): Promise<void> {
    this.assertWritable()
    this.#assertRoom(this.#freeBytesMin / growthMax)
    await this.commit(() => void this.#meta.put(plainKey('checked'), Buffer.from(String(Date.now()))))
  }

  /** Closes it, with a data file that was written anew: without the pages that nothing uses, and what they held. */
  async compact(): Promise<void> {
    const folder = join(this.dir, 'compacted')
    rmSync(folder, { recursive: true, force: true })
    makeDir(folder)
    const { size } = statSync(this.#file)
    const { bavail, bsize } = this.#statfs()
    if (bavail * bsize < size)
      throw new OperatorError(`${this.dir} needs room for a copy of its data file: ${size} bytes, ${bavail * bsize} are free`)
    await this.#root.backup(folder, true)
    await this.close()
    const copy = join(folder, 'data.mdb')
    syncFile(copy)
    renameSync(copy, this.#file)
    rmSync(folder, { recursive: true })
    syncFile(this.dir)
  }

  /** Resolves when all that was written is on disk. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await Promise.allSettled([...this.#pending])
    await this.#root.close()
  }

  /** Throws StoreUnavailable unless a write may be begun. */
  assertWritable(): void {
    this.assertOpen()
    if (this.#stuck !== undefined) this.#fail(this.#stuck)
    this.#assertInPlace()
  }

  /**
   * LMDB must not meet a full disk: it then writes its message past the end of a buffer (mdb.c, `last_error`), which
   * can kill the process. Settling and copied pages make a commit larger than what is put.
   */
  #assertRoom(bytes: number): void {
    if (this.roomBytes(bytes) >= 0) return
    this.#fail(`the disk is full: ${this.#freeBytesMin} bytes must stay free`)
  }

  /** Room on the disk for more than a write of so many bytes; below 0 when it is not even enough for that. */
  roomBytes(bytes: number): number {
    const { bavail, bsize } = this.#statfs()
    return bavail * bsize - this.#freeBytesMin - bytes * growthMax
  }

  #statfs(): { bavail: number; bsize: number } {
    try {
      return statfsSync(this.dir)
    } catch (error) {
      this.#fail((error as Error).message, error)
    }
  }

  async #write(start: () => Promise<unknown>, bytes = 0): Promise<void> {
    this.assertWritable()
    this.#assertRoom(bytes)
    const written = start()
    this.#pending.add(written)
    try {
      await this.#settled(written)
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error
      this.#fail(await reasonOf(error), error)
    }
  }

  /** A file that was deleted can be written to for ever, and nothing of it survives a restart. */
  #assertInPlace(): void {
    if (statSync(this.#file, { throwIfNoEntry: false })?.ino !== this.#inode) {
      this.#fail('its files were removed or replaced while it was open; restart the server')
    }
  }

  /** Waits for a commit; when it takes too long, refuses all further writes until it has answered. */
  async #settled(written: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#stuck = `a commit has not finished within ${commitMsMax} ms; its outcome is unknown`
        this.#logger?.error({ dir: this.dir }, 'the disk does not answer')
        reject(new StoreUnavailable(this.#sentence(this.#stuck)))
      }, commitMsMax)
    })
    const forget = () => {
      this.#pending.delete(written)
      if (this.#pending.size === 0) this.#stuck = undefined
    }
    written.then(forget, forget)
    try {
      await Promise.race([written, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #sentence(why: string): string {
    return `the store in ${this.dir} cannot be used now: ${why}`
  }

  #fail(why: string, cause?: unknown): never {
    throw new StoreUnavailable(this.#sentence(why), cause === undefined ? undefined : { cause })
  }
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** What must stay free on the disk of `dir`. */
function freeBytesOf(dir: string): number {
  const { blocks, bsize } = statfsSync(dir)
  return Math.min(Math.max((blocks * bsize) / freeShare, freeBytesLeast), freeBytesMost)
}

const nothing = (): void => undefined

const magic = Buffer.of(0xde, 0xc0, 0xef, 0xbe)
const magicAt = 24

/** LMDB reads what is not its own until the process dies of it. */
function assertLmdbFile(file: string): void {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0) return
  const fd = openSync(file, 'r')
  const start = Buffer.alloc(magicAt + magic.length)
  readSync(fd, start)
  closeSync(fd)
  if (start.subarray(magicAt).equals(magic)) return
  throw new OperatorError(`${file} is not a store of Parley: restore it from a backup, or use another data directory`)
}

/** LMDB rejects with an error that carries the promise of the real one. */
async function reasonOf(error: unknown): Promise<string> {
  const commitError = (error as { commitError?: Promise<never> }).commitError
  const real = commitError === undefined ? error : await commitError.catch((reason: unknown) => reason)
  return real instanceof Error ? real.message : String(real)
}
