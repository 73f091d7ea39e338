/**
 * Users, groups, members and each user's list of conversations, on LMDB. A row of the list is up to three fields
 * under neighbouring keys (membership, read, sent), so that an append writes `sent` without reading anything.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type ConversationId, groupConversation } from '../../topics.js'
import type { ConversationRow, Directory, Effect, GroupRecord, MemberRecord, MessageLog, RowAtHead, Span, UserRecord } from '../store.js'
import { decodeSeq, encodeSeq } from './bytes.js'
import type { Environment, Table } from './environment.js'
import { plainKey, plainRange, type RowField, rowField, rowKey, rowTailBytes } from './keys.js'
import { lowest, rowsOf } from './rows.js'

export interface DirectoryTables {
  users: Table
  groups: Table
  members: Table
  rows: Table
}

const encode = (record: object): Buffer => Buffer.from(JSON.stringify(record))
/** What a decoder returns was written by the encoder above, under a key of that type. */
const decode = <T>(value: Buffer | undefined): T | undefined => (value === undefined ? undefined : (JSON.parse(value.toString()) as T))

/** A membership is the text `direct`, or the spans of a group as JSON. */
export const directMembership = Buffer.from('direct')

/** Writes what an append does to the directory; called inside its commit. */
export function putEffect({ groups, members, rows }: DirectoryTables, effect: Effect): void {
  if (effect.kind === 'group') {
    groups.put(plainKey(effect.record.group), encode(effect.record))
    return
  }
  const { group, record } = effect
  members.put(plainKey(group, record.user), encode(record))
  rows.put(rowKey(record.user, groupConversation(group), rowField.membership), encode(record.spans))
}

/** Sends that are not in `rows` yet. */
export interface RecentSends {
  lastSent(conv: ConversationId, user: string): number | undefined
}

export class LmdbDirectory implements Directory {
  readonly #environment: Environment
  readonly #tables: DirectoryTables
  readonly #recent: RecentSends
  readonly #log: Pick<MessageLog, 'heads'>
  /** Users whose commit is under way: who is told of one must be able to read it. */
  readonly #coming = new Map<string, UserRecord>()
  /** The commit of users under way, and the one that those who came since wait for. */
  #putting: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  /** The last commit had so many that the next one may wait for more: beginning one costs as much as a tenth of a connect. */
  #isCrowd = false

  constructor(environment: Environment, tables: DirectoryTables, recent: RecentSends, log: Pick<MessageLog, 'heads'>) {
    this.#environment = environment
    this.#tables = tables
    this.#recent = recent
    this.#log = log
  }

  async user(user: string): Promise<UserRecord | undefined> {
    return this.#user(user)
  }

  #user(user: string): UserRecord | undefined {
    this.#environment.assertOpen()
    return this.#coming.get(user) ?? decode<UserRecord>(this.#tables.users.get(plainKey(user)))
  }

  async addUser(record: UserRecord): Promise<void> {
    // One who is on his way to the disk is put again: whether he came there only the one who put him hears.
    const coming = this.#coming.get(record.user)
    if (coming !== undefined || this.#user(record.user) === undefined) await this.putUser(coming ?? record)
  }

  putUser(record: UserRecord): Promise<void> {
    this.#coming.set(record.user, record)
    // Of many that come at once, those that wait for a commit share the next one.
    this.#next ??= this.#putting.then(() => (this.#isCrowd ? delay(crowdMs) : undefined)).then(() => this.#putUsers())
    return this.#next
  }

  /** Resolves when no user is on his way to the disk. */
  async flush(): Promise<void> {
    await (this.#next ?? this.#putting)
  }

  #putUsers(): Promise<void> {
    const coming = [...this.#coming.values()]
    this.#next = undefined
    this.#isCrowd = coming.length >= crowdMin
    const put = this.#environment.commit(
      () => {
        for (const record of coming) this.#tables.users.put(plainKey(record.user), encode(record))
      },
      undefined,
      coming.length * userBytesMax,
    )
    const forget = (): void => {
      for (const record of coming) if (this.#coming.get(record.user) === record) this.#coming.delete(record.user)
    }
    this.#putting = put.then(forget, forget)
    return put
  }

  async *users(): AsyncIterable<UserRecord> {
    for await (const { value } of rowsOf(this.#environment, this.#tables.users, { start: lowest })) yield JSON.parse(value.toString())
  }

  async group(group: string): Promise<GroupRecord | undefined> {
    this.#environment.assertOpen()
    return decode<GroupRecord>(this.#tables.groups.get(plainKey(group)))
  }

  async groups(groups: readonly string[]): Promise<(GroupRecord | undefined)[]> {
    return Promise.all(groups.map((group) => this.group(group)))
  }

  async members(group: string): Promise<MemberRecord[]> {
    this.#environment.assertOpen()
    const found: MemberRecord[] = []
    for (const { value } of this.#tables.members.getRange(plainRange(group))) found.push(decodeMember(value))
    return found
  }

  async membersWithReads(group: string): Promise<(MemberRecord & { read: number })[]> {
    const members = await this.members(group)
    const conv = groupConversation(group)
    const reads = await this.reads(members.map(({ user }) => ({ user, conv })))
    return members.map((member, at) => ({ ...member, read: reads[at] as number }))
  }

  async member(group: string, user: string): Promise<MemberRecord | undefined> {
    this.#environment.assertOpen()
    const value = this.#tables.members.get(plainKey(group, user))
    return value === undefined ? undefined : decodeMember(value)
  }

  async conversationsOf(user: string): Promise<ConversationRow[]> {
    this.#environment.assertOpen()
    const found: ConversationRow[] = []
    const range = plainRange(user)
    for (const { key, value } of this.#tables.rows.getRange(range)) {
      const conv = key.toString('latin1', range.start.length, key.length - rowTailBytes) as ConversationId
      const field = key[key.length - 1] as RowField
      const row = found.at(-1)
      if (field === rowField.membership) found.push(newRow(conv, value))
      else if (row?.conv === conv) setField(row, field, value)
    }
    for (const row of found) row.sent = this.#recent.lastSent(row.conv, user) ?? row.sent
    return found
  }

  async conversationsAtHead(user: string, convs?: readonly ConversationId[]): Promise<RowAtHead[]> {
    // In place: of thousands a second object each doubles what the first call after a start takes.
    const rows = (convs === undefined ? await this.conversationsOf(user) : await this.#rowsIn(user, convs)) as RowAtHead[]
    const heads = await this.#log.heads(rows.map(({ conv }) => conv))
    for (let at = 0; at < rows.length; at++) {
      const row = rows[at] as RowAtHead
      const { head, ts } = heads[at] as { head: number; ts: number }
      row.head = head
      row.ts = ts
    }
    return rows
  }

  async #rowsIn(user: string, convs: readonly ConversationId[]): Promise<ConversationRow[]> {
    const rows = await Promise.all(convs.map((conv) => this.conversation(user, conv)))
    return rows.filter((row) => row !== undefined)
  }

  async conversation(user: string, conv: ConversationId): Promise<ConversationRow | undefined> {
    this.#environment.assertOpen()
    const { rows } = this.#tables
    const membership = rows.get(rowKey(user, conv, rowField.membership))
    if (membership === undefined) return undefined
    const row = newRow(conv, membership)
    for (const field of [rowField.read, rowField.sent]) {
      const value = rows.get(rowKey(user, conv, field))
      if (value !== undefined) setField(row, field, value)
    }
    row.sent = this.#recent.lastSent(conv, user) ?? row.sent
    return row
  }

  async reads(places: readonly { user: string; conv: ConversationId }[]): Promise<number[]> {
    this.#environment.assertOpen()
    return places.map(({ user, conv }) => {
      const value = this.#tables.rows.get(rowKey(user, conv, rowField.read))
      return value === undefined ? 0 : decodeSeq(value)
    })
  }

  setRead(positions: readonly { user: string; conv: ConversationId; seq: number }[]): Promise<void> {
    if (positions.length === 0) return Promise.resolve()
    const { rows } = this.#tables
    return this.#environment.transact(() => {
      for (const { user, conv, seq } of positions) {
        if (rows.get(rowKey(user, conv, rowField.membership)) === undefined) continue
        const before = rows.get(rowKey(user, conv, rowField.read))
        if (before === undefined || seq > decodeSeq(before)) rows.put(rowKey(user, conv, rowField.read), encodeSeq(seq))
      }
    }, positions.length * positionBytesMax)
  }
}

const userBytesMax = 200
const crowdMin = 4
const crowdMs = 10
/** A row with the longest names. */
const positionBytesMax = 300

/** JSON leaves out the role of a past member. */
function decodeMember(value: Buffer): MemberRecord {
  const { user, role, spans, ...rest } = JSON.parse(value.toString()) as MemberRecord
  return { user, role, spans, ...rest }
}

function newRow(conv: ConversationId, membership: Buffer): ConversationRow {
  const row: ConversationRow = { conv, read: 0, sent: 0 }
  if (membership[0] !== directMembership[0]) row.spans = JSON.parse(membership.toString()) as Span[]
  return row
}

function setField(row: ConversationRow, field: RowField, value: Buffer): void {
  const seq = decodeSeq(value)
  if (field === rowField.read) row.read = seq
  else row.sent = seq
}
