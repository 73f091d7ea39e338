/** Users, groups, members and each user's list of conversations, on MongoDB. What an append changes is read after all of the log was applied. */

import { InTurn } from '../../in-turn.js'
import { type ConversationId, groupConversation, isGroup } from '../../topics.js'
import type { ConversationRow, Directory, GroupRecord, MemberRecord, RowAtHead, UserRecord } from '../store.js'
import type { Applied } from './applied.js'
import { type ConversationDocument, fieldOf, groupedByUser, type MemberDocument, pairId, type UserDocument } from './collections.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'
import { Together } from './together.js'

/** What a row of a user's list is made of. */
const rowFields = { conv: 1, user: 1, read: 1, spans: 1 }
const rowsAtOnce = 10_000

export class MongodbDirectory implements Directory {
  readonly #server: MongodbServer
  readonly #applied: Applied
  readonly #queue = new InTurn()
  /** Users whose write is under way: who is told of one must be able to read it. */
  readonly #coming = new Map<string, UserRecord>()

  /** Connects ask for these, many at the same moment. */
  readonly #users: Together<string, UserDocument | undefined>
  readonly #newUsers: Together<UserRecord, void>
  readonly #rowsOf: Together<string, MemberDocument[]>

  constructor(server: MongodbServer, applied: Applied) {
    this.#server = server
    this.#applied = applied
    const { users, members } = server.collections
    this.#users = new Together(async (names) => {
      const found = await server.findNamed(users, [...new Set(names)])
      return names.map((name) => found.get(name))
    })
    this.#newUsers = new Together(async (records) => {
      const documents = new Map(records.map((record): [string, UserDocument] => [record.user, { _id: record.user, ...record }]))
      await server.insertNew(users, [...documents.values()])
      return records.map(() => undefined)
    })
    this.#rowsOf = new Together(async (names) => {
      // Of an unknown number the server gives the first hundred and has to be asked again.
      const options = { projection: { ...rowFields, user: 1 }, batchSize: rowsAtOnce }
      const found = await server.run(() => members.find({ user: { $in: [...new Set(names)] } }, options).toArray())
      const byUser = groupedByUser(found)
      return names.map((name) => byUser.get(name) ?? [])
    })
  }

  async user(user: string): Promise<UserRecord | undefined> {
    const coming = this.#coming.get(user)
    if (coming !== undefined) return coming
    const found = await this.#users.ask(user)
    if (found === undefined) return undefined
    const { _id, ...record } = found
    return record
  }

  async putUser(record: UserRecord): Promise<void> {
    const { user } = record
    this.#coming.set(user, record)
    const { users } = this.#server.collections
    const put = () => this.#server.runUpsert(() => users.replaceOne({ _id: user }, record, { upsert: true }))
    try {
      await this.#queue.run([user], put)
    } finally {
      if (this.#coming.get(user) === record) this.#coming.delete(user)
    }
  }

  /** What another node writes of him at the same time is not overwritten. */
  async addUser(record: UserRecord): Promise<void> {
    const { user } = record
    await this.#queue.run([user], () => this.#newUsers.ask(record))
  }

  async *users(): AsyncIterable<UserRecord> {
    for await (const { _id, ...record } of inOrder(this.#server, this.#server.collections.users)) yield record
  }

  async group(group: string): Promise<GroupRecord | undefined> {
    const found = await this.#server.run(() => this.#server.collections.groups.findOne({ _id: group }))
    return found?.record
  }

  async groups(groups: readonly string[]): Promise<(GroupRecord | undefined)[]> {
    const found = await this.#server.findNamed(this.#server.collections.groups, groups)
    return groups.map((group) => found.get(group)?.record)
  }

  async members(group: string): Promise<MemberRecord[]> {
    return (await this.#membersIn(group)).map(memberOf)
  }

  async membersWithReads(group: string): Promise<(MemberRecord & { read: number })[]> {
    return (await this.#membersIn(group)).map((member) => ({ ...memberOf(member), read: member.read }))
  }

  #membersIn(group: string): Promise<MemberDocument[]> {
    const conv = groupConversation(group)
    return this.#server.run(() => this.#server.collections.members.find({ conv }, { batchSize: rowsAtOnce }).toArray())
  }

  async member(group: string, user: string): Promise<MemberRecord | undefined> {
    const _id = pairId(groupConversation(group), user)
    const found = await this.#server.run(() => this.#server.collections.members.findOne({ _id }))
    return found === null ? undefined : memberOf(found)
  }

  async conversationsOf(user: string): Promise<ConversationRow[]> {
    const members = await this.#membersOf(user)
    const states = await this.#applied.states(
      members.map(({ conv }) => conv),
      user,
    )
    return members.map((member) => rowOf(member, states.get(member.conv)))
  }

  #membersOf(user: string): Promise<MemberDocument[]> {
    return this.#rowsOf.ask(user)
  }

  async conversationsAtHead(user: string, convs?: readonly ConversationId[]): Promise<RowAtHead[]> {
    const known = convs === undefined ? await this.#membersOf(user) : []
    const all = convs ?? known.map(({ conv }) => conv)
    const states = await this.#applied.states(all, user)
    // Behind the heads: who has left meanwhile has done so in an entry that the head may be behind, and may not see what follows it.
    const named = convs ?? all.filter(isGroup)
    const later = await this.#server.findNamed(
      this.#server.collections.members,
      named.map((conv) => pairId(conv, user)),
      rowFields,
    )
    const members = convs === undefined ? known.map((member) => later.get(member._id) ?? member) : [...later.values()]
    return members.map((member) => {
      const state = states.get(member.conv)
      return { ...rowOf(member, state), head: state?.head ?? 0, ts: state?.ts ?? 0 }
    })
  }

  async conversation(user: string, conv: ConversationId): Promise<ConversationRow | undefined> {
    const states = await this.#applied.upToDate([conv], user)
    const member = await this.#server.run(() => this.#server.collections.members.findOne({ _id: pairId(conv, user) }))
    return member === null ? undefined : rowOf(member, states.get(conv))
  }

  async reads(places: readonly { user: string; conv: ConversationId }[]): Promise<number[]> {
    const ids = places.map(({ user, conv }) => pairId(conv, user))
    const found = await this.#server.findNamed(this.#server.collections.members, ids, { read: 1 })
    return ids.map((id) => found.get(id)?.read ?? 0)
  }

  async setRead(positions: readonly { user: string; conv: ConversationId; seq: number }[]): Promise<void> {
    const furthest = new Map<string, number>()
    for (const { user, conv, seq } of positions) {
      const _id = pairId(conv, user)
      furthest.set(_id, Math.max(seq, furthest.get(_id) ?? 0))
    }
    if (furthest.size === 0) return
    const updates = [...furthest].map(([_id, read]) => ({ updateOne: { filter: { _id }, update: { $max: { read } } } }))
    const write = () => this.#server.bulk(this.#server.collections.members, updates)
    await this.#queue.run(furthest.keys(), () => this.#server.run(write))
  }
}

function memberOf({ user, role, spans, mutedUntilTs }: MemberDocument): MemberRecord {
  const record: MemberRecord = { user, role: role ?? undefined, spans: spans ?? [] }
  if (mutedUntilTs) record.mutedUntilTs = mutedUntilTs
  return record
}

function rowOf({ conv, user, read, spans }: MemberDocument, state: ConversationDocument | undefined): ConversationRow {
  const row: ConversationRow = { conv, read, sent: state?.sent?.[fieldOf(user)] ?? 0 }
  if (spans !== undefined) row.spans = spans
  return row
}
