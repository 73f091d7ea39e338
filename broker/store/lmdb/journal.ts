/**
 * The journal: files to which each append writes one record, in sequence; that write is what makes the append durable.
 * A file is written from its start for one generation of messages (`recent.ts`) and used again when that is settled, so that in the
 * long run no write changes the size of a file. What a file held before is told from what it holds by the numbers of the
 * records, which never repeat, and which nobody can guess: what a client writes into an old record must not pass for a new one.
 * Record, big-endian: digest 8 bytes, length of the body u32, number u48, body.
 */
import { createHash, randomInt } from 'node:crypto'
import { closeSync, constants, fsyncSync, openSync, readdirSync, readFileSync, statSync, unlinkSync, write } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeDir } from '../../make-dir.js'
import { OperatorError } from '../../operator-error.js'
import { StoreUnavailable } from '../store.js'

/** Room for these is to be left in front of the body. */
export const recordHeadBytes = 18
const digestBytes = 8
const lengthAt = digestBytes
const numberAt = lengthAt + 4
/** Files that wait to be used again; more are removed. */
const freeMax = 2
/** A write returns when what it wrote is on disk. */
const writeFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_DSYNC
const fileMode = 0o600
const firstNumberMax = 2 ** 46

/** What a new journal begins behind. */
export const newReleased = (): number => randomInt(1, firstNumberMax)

interface File {
  readonly path: string
  readonly fd: number
  readonly inode: number
  position: number
  /** Number of the last record in it; 0: none that counts. */
  last: number
  /** Is removed when it is released, not used again. */
  isRetired: boolean
}

/** What the tables know of the journal. */
export interface JournalNumbers {
  /** All up to this record is in the tables. */
  released: number
  /** This record was written; perhaps not the last one. */
  durable: number
}

export interface JournalRecord {
  number: number
  body: Buffer
}

export class Journal {
  readonly #dir: string
  #number = 0
  #current: File
  /** Full ones, oldest first. */
  readonly #full: File[] = []
  readonly #free: File[] = []
  #names = 0
  #isTurning = false
  /** The last write failed, and may be on disk all the same. */
  #isTorn = false
  #isClosed = false

  /**
   * Opens the journal in `dir`, which is created if need be, and gives the records behind `released` to `found`, oldest first. Throws an
   * OperatorError when one is missing or damaged, `durable` being one that was on the disk for certain.
   */
  constructor(dir: string, { released, durable }: JournalNumbers, found: (record: JournalRecord) => void) {
    this.#dir = dir
    this.#number = released
    makeDir(dir)
    syncDir(dirname(dir))
    const names = readdirSync(dir).filter((name) => /^\d+$/.test(name))
    const runs = names.map((name) => ({ path: join(dir, name), records: readRun(join(dir, name), released) }))
    runs.sort((a, b) => (a.records[0]?.number ?? 0) - (b.records[0]?.number ?? 0))
    this.#names = Math.max(0, ...names.map(Number))
    for (const record of runs.flatMap(({ records }) => records)) {
      if (record.number !== this.#number + 1)
        throw new OperatorError(`the journal in ${dir} has no record ${this.#number + 1}, but ${record.number}: restore it from a backup`)
      this.#number = record.number
      found(record)
    }
    // One that was being written in a crash was never on the disk.
    if (this.#number < durable)
      throw new OperatorError(
        `the journal in ${dir} ends with record ${this.#number}, and ${durable} was stored: ${durable - this.#number} are missing; restore it from a backup`,
      )
    for (const { path, records } of runs) {
      const last = records.at(-1)?.number ?? 0
      const file = this.#open(path, last)
      if (last === 0) this.#free.push(file)
      else this.#full.push(file)
    }
    this.#current = this.#next()
  }

  #open(path: string, last: number): File {
    const fd = openSync(path, writeFlags, fileMode)
    return { path, fd, inode: statSync(path).ino, position: 0, last, isRetired: false }
  }

  #next(): File {
    const free = this.#free.pop()
    if (free !== undefined) return Object.assign(free, { position: 0, last: 0 })
    const file = this.#open(join(this.#dir, String(++this.#names)), 0)
    try {
      syncDir(this.#dir)
    } catch (error) {
      closeSync(file.fd)
      throw error
    }
    return file
  }

  /** True unless the file that is written was removed or replaced: what is written to it then would be lost. */
  get isInPlace(): boolean {
    return statSync(this.#current.path, { throwIfNoEntry: false })?.ino === this.#current.inode
  }

  /**
   * Writes a record whose body begins behind `recordHeadBytes`; resolves with its number when it is on disk. One at a time, and the bytes
   * must not change meanwhile. One that fails is not counted: the next has its number, and is written over it.
   */
  async append(record: Buffer): Promise<number> {
    if (this.#isTurning && !this.#isTorn) this.#turnNow()
    const file = this.#current
    const number = this.#number + 1
    record.writeUInt32BE(record.length - recordHeadBytes, lengthAt)
    record.writeUIntBE(number, numberAt, 6)
    digestOf(record).copy(record, 0)
    this.#isTorn = true
    await writeAll(file.fd, record, file.position)
    this.#isTorn = false
    this.#number = number
    file.last = number
    file.position += record.length
    return number
  }

  /** What is appended from now on goes to another file, but for what is being written. */
  turn(): void {
    this.#isTurning = true
  }

  /** Never behind a write that failed: what is left of it would stand at the end of this file, with the number of a record in the next. */
  #turnNow(): void {
    if (this.#current.last > 0) {
      const next = this.#next()
      this.#full.push(this.#current)
      this.#current = next
    }
    this.#isTurning = false
  }

  /** Records up to this number are not needed any more. */
  release(number: number): void {
    while (this.#full[0] !== undefined && this.#full[0].last <= number) {
      const file = this.#full.shift() as File
      if (!file.isRetired && this.#free.length < freeMax) this.#free.push(file)
      else removeFile(file)
    }
  }

  /** Number of the last record. */
  get number(): number {
    return this.#number
  }

  /**
   * From now on no file is used again that was used until now: what was written to them is gone when they are released. Not while a record is
   * being written.
   */
  retire(): void {
    if (this.#isTorn) throw new StoreUnavailable('the last write to the journal failed')
    for (const file of this.#free.splice(0)) removeFile(file)
    const current = this.#current
    this.#current = this.#next()
    this.#isTurning = false
    if (current.last > 0) this.#full.push(current)
    else removeFile(current)
    for (const file of this.#full) file.isRetired = true
    syncDir(this.#dir)
  }

  /** Some that were retired are not released yet. */
  get hasRetired(): boolean {
    return this.#full.some(({ isRetired }) => isRetired)
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const { fd } of [this.#current, ...this.#full, ...this.#free]) closeSync(fd)
  }
}

function removeFile({ fd, path }: File): void {
  closeSync(fd)
  unlinkSync(path)
}

/** What was created or removed in it is durable. */
function syncDir(path: string): void {
  const dir = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(dir)
  } finally {
    closeSync(dir)
  }
}

const digestOf = (record: Buffer): Buffer => createHash('sha256').update(record.subarray(lengthAt)).digest().subarray(0, digestBytes)

async function writeAll(fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += await new Promise<number>((resolve, reject) => {
      write(fd, bytes, written, bytes.length - written, position + written, (error, count) =>
        error === null ? resolve(count) : reject(error),
      )
    })
  }
}

/** The record at `at`, or undefined where there is none, or not all of one. */
function readRecordAt(bytes: Buffer, at: number): JournalRecord | undefined {
  if (at + recordHeadBytes > bytes.length) return undefined
  const end = at + recordHeadBytes + bytes.readUInt32BE(at + lengthAt)
  if (end > bytes.length) return undefined
  const record = bytes.subarray(at, end)
  if (!digestOf(record).equals(record.subarray(0, digestBytes))) return undefined
  return { number: record.readUIntBE(numberAt, 6), body: record.subarray(recordHeadBytes) }
}

/**
 * The records that a file begins with, as far as their numbers follow each other, without those up to `released`. Behind them may be one
 * whose write was cut off, which nobody was told of, and what is left of earlier uses.
 */
function readRun(path: string, released: number): JournalRecord[] {
  const bytes = readFileSync(path)
  const records: JournalRecord[] = []
  let at = 0
  let last = 0
  for (;;) {
    const record = readRecordAt(bytes, at)
    if (record === undefined || (last > 0 && record.number !== last + 1)) break
    last = record.number
    if (last > released) records.push(record)
    at += recordHeadBytes + record.body.length
  }
  assertTorn(path, bytes, at, Math.max(last, released))
  return records
}

/** Only the last record can be cut off: one that can be read behind it was acknowledged, and so was what is damaged before it. */
function assertTorn(path: string, bytes: Buffer, damagedAt: number, last: number): void {
  const lastPossible = last + Math.ceil(bytes.length / recordHeadBytes)
  for (let at = damagedAt; at + recordHeadBytes <= bytes.length; at++) {
    const number = bytes.readUIntBE(at + numberAt, 6)
    if (number <= last || number > lastPossible || readRecordAt(bytes, at) === undefined) continue
    throw new OperatorError(`${path} is damaged at byte ${damagedAt}, before record ${number} of the journal: restore it from a backup`)
  }
}
