/**
 * Persistent sessions and their cursors on LMDB. Every write first looks at what is there, inside its transaction, so
 * that a cursor which is saved late can never bring back a session that was removed meanwhile.
 */
import type { ConversationId } from '../../topics.js'
import type { SessionRecord, SessionStore } from '../store.js'
import { decodeSeq, encodeSeq } from './bytes.js'
import type { Environment, Table } from './environment.js'
import { plainKey, plainRange, textsOf } from './keys.js'
import { lowest, rowsOf } from './rows.js'

/** A row with the longest names. */
const cursorBytesMax = 300

export interface SessionTables {
  sessions: Table
  cursors: Table
  retransmits: Table
}

export class LmdbSessionStore implements SessionStore {
  readonly #environment: Environment
  readonly #tables: SessionTables

  constructor(environment: Environment, tables: SessionTables) {
    this.#environment = environment
    this.#tables = tables
  }

  async get(user: string, device: string): Promise<SessionRecord | undefined> {
    this.#environment.assertOpen()
    return this.#session(user, device)
  }

  #session(user: string, device: string): SessionRecord | undefined {
    const value = this.#tables.sessions.get(plainKey(user, device))
    return value === undefined ? undefined : (JSON.parse(value.toString()) as SessionRecord)
  }

  async list(user: string): Promise<SessionRecord[]> {
    this.#environment.assertOpen()
    const found: SessionRecord[] = []
    for (const { value } of this.#tables.sessions.getRange(plainRange(user))) found.push(JSON.parse(value.toString()))
    return found
  }

  async *all(): AsyncIterable<SessionRecord> {
    for await (const { value } of rowsOf(this.#environment, this.#tables.sessions, { start: lowest })) yield JSON.parse(value.toString())
  }

  create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void> {
    const { user, device } = record
    const { sessions, cursors: table } = this.#tables
    return this.#environment.transact(() => {
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

  saveCursors(cursors: readonly { user: string; device: string; conv: ConversationId; seq: number }[], seenTs: number): Promise<void> {
    if (cursors.length === 0) return Promise.resolve()
    const { sessions, cursors: table } = this.#tables
    return this.#environment.transact(() => {
      const known = new Map<string, boolean>()
      for (const { user, device, conv, seq } of cursors) {
        const name = `${user}/${device}`
        let exists = known.get(name)
        if (exists === undefined) {
          const record = this.#session(user, device)
          exists = record !== undefined
          known.set(name, exists)
          if (record !== undefined) sessions.put(plainKey(user, device), Buffer.from(JSON.stringify({ ...record, seenTs })))
        }
        if (exists) table.put(plainKey(user, device, conv), encodeSeq(seq))
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

  remove(user: string, device: string): Promise<void> {
    return this.#environment.transact(() => this.#clear(user, device))
  }

  /** Forgets the session, its cursors, and the packet ids that only it could send again. */
  #clear(user: string, device: string): void {
    const { sessions, cursors, retransmits } = this.#tables
    sessions.remove(Buffer.from(plainKey(user, device)))
    removeRange(cursors, plainRange(user, device))
    removeRange(retransmits, plainRange(`${user}/${device}`))
  }
}

function removeRange(table: Table, range: { start: Buffer; end: Buffer }): void {
  const keys = [...table.getKeys(range)]
  for (const key of keys) table.remove(key)
}
