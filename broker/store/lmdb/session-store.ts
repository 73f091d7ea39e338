/**
 * Persistent sessions and their cursors on LMDB. Every write first looks at what is there, inside its transaction, so
 * that a cursor which is saved late can never bring back a session that was removed meanwhile. One process owns the directory, so
 * epochs live in memory: to take one costs no write.
 */
import type { ConversationId } from '../../topics.js'
import type { MovedCursor, SessionRecord, SessionStore } from '../store.js'
import { decodeSeq, encodeSeq } from './bytes.js'
import type { Environment, Table } from './environment.js'
import { plainKey, plainRange, textsOf } from './keys.js'
import { lowest, rowsOf } from './rows.js'

/** A row with the longest names. */
const cursorBytesMax = 300
/** Devices whose last epoch is known; of others it is that of their stored session. */
const epochsMax = 100_000

export interface SessionTables {
  sessions: Table
  cursors: Table
  retransmits: Table
}

export class LmdbSessionStore implements SessionStore {
  readonly #environment: Environment
  readonly #tables: SessionTables
  /** The last epoch of each device, the latest at the end. */
  readonly #epochs = new Map<string, number>()
  #lastEpoch = 0

  constructor(environment: Environment, tables: SessionTables) {
    this.#environment = environment
    this.#tables = tables
  }

  async open(user: string, device: string): Promise<{ epoch: number; stored: SessionRecord | undefined }> {
    this.#environment.assertOpen()
    const stored = this.#session(user, device)
    const epoch = Math.max(this.#lastEpoch, stored?.epoch ?? 0) + 1
    this.#lastEpoch = epoch
    const key = nameOf(user, device)
    this.#epochs.delete(key)
    this.#epochs.set(key, epoch)
    if (this.#epochs.size > epochsMax) this.#epochs.delete(this.#epochs.keys().next().value as string)
    return { epoch, stored }
  }

  #isStale(user: string, device: string, epoch: number): boolean {
    return epoch < this.#lastEpochOf(user, device)
  }

  #lastEpochOf(user: string, device: string): number {
    return this.#epochs.get(nameOf(user, device)) ?? this.#session(user, device)?.epoch ?? 0
  }

  async lastEpoch(user: string, device: string): Promise<number> {
    this.#environment.assertOpen()
    return this.#lastEpochOf(user, device)
  }

  async get(user: string, device: string): Promise<SessionRecord | undefined> {
    this.#environment.assertOpen()
    return this.#session(user, device)
  }

  #session(user: string, device: string): SessionRecord | undefined {
    const value = this.#tables.sessions.get(plainKey(user, device))
    return value === undefined ? undefined : recordOf(value)
  }

  async list(user: string): Promise<SessionRecord[]> {
    this.#environment.assertOpen()
    const found: SessionRecord[] = []
    for (const { value } of this.#tables.sessions.getRange(plainRange(user))) found.push(recordOf(value))
    return found
  }

  async *all(seenBeforeTs = Number.POSITIVE_INFINITY): AsyncIterable<SessionRecord> {
    for await (const { value } of rowsOf(this.#environment, this.#tables.sessions, { start: lowest })) {
      const record = recordOf(value)
      if (record.seenTs < seenBeforeTs) yield record
    }
  }

  create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void> {
    const { user, device, epoch } = record
    const { sessions, cursors: table } = this.#tables
    return this.#environment.transact(() => {
      if (this.#isStale(user, device, epoch)) return
      this.#clear(user, device)
      sessions.put(plainKey(user, device), Buffer.from(JSON.stringify(record)))
      for (const [conv, seq] of cursors) table.put(plainKey(user, device, conv), encodeSeq(seq))
    }, cursors.size * cursorBytesMax)
  }

  async cursors(user: string, device: string): Promise<Map<ConversationId, number>> {
    this.#environment.assertOpen()
    const found = new Map<ConversationId, number>()
    for (const { key, value } of this.#tables.cursors.getRange(plainRange(user, device))) {
      found.set(textsOf(key)[2] as ConversationId, decodeSeq(value))
    }
    return found
  }

  saveCursors(cursors: readonly MovedCursor[], seenTs: number): Promise<void> {
    if (cursors.length === 0) return Promise.resolve()
    const { sessions, cursors: table } = this.#tables
    return this.#environment.transact(() => {
      const known = new Map<string, boolean>()
      for (const { user, device, epoch, conv, seq } of cursors) {
        const name = `${nameOf(user, device)} ${epoch}`
        let isCurrent = known.get(name)
        if (isCurrent === undefined) {
          const record = this.#session(user, device)
          isCurrent = record !== undefined && !this.#isStale(user, device, epoch)
          known.set(name, isCurrent)
          if (isCurrent) sessions.put(plainKey(user, device), Buffer.from(JSON.stringify({ ...record, epoch, seenTs })))
        }
        if (isCurrent) table.put(plainKey(user, device, conv), encodeSeq(seq))
      }
    }, cursors.length * cursorBytesMax)
  }

  touch(named: readonly { user: string; device: string }[], seenTs: number): Promise<void> {
    if (named.length === 0) return Promise.resolve()
    return this.#environment.transact(() => {
      for (const { user, device } of named) {
        const record = this.#session(user, device)
        if (record !== undefined) this.#tables.sessions.put(plainKey(user, device), Buffer.from(JSON.stringify({ ...record, seenTs })))
      }
    }, named.length * cursorBytesMax)
  }

  remove(user: string, device: string, epoch?: number): Promise<void> {
    return this.#environment.transact(() => {
      if (epoch === undefined || !this.#isStale(user, device, epoch)) this.#clear(user, device)
    })
  }

  /** Forgets the session, its cursors, and the packet ids that only it could send again. */
  #clear(user: string, device: string): void {
    const { sessions, cursors, retransmits } = this.#tables
    sessions.remove(Buffer.from(plainKey(user, device)))
    removeRange(cursors, plainRange(user, device))
    removeRange(retransmits, plainRange(nameOf(user, device)))
  }
}

const nameOf = (user: string, device: string): string => `${user}/${device}`

/** Sessions of before there were epochs have none. */
const recordOf = (value: Buffer): SessionRecord =>
  ({ epoch: 0, ...(JSON.parse(value.toString()) as Partial<SessionRecord>) }) as SessionRecord

function removeRange(table: Table, range: { start: Buffer; end: Buffer }): void {
  const keys = [...table.getKeys(range)]
  for (const key of keys) table.remove(key)
}
