/**
 * The collections of the cluster's store and the form of their documents. `messages` is the truth: one document per append and
 * conversation, whose _id names the entry behind which it stands, so that of two writers at the same head one is refused. All other
 * collections that an append touches are derived from it (see applied.ts).
 */
import { Binary, type Collection, type Db } from 'mongodb'
import type { ConversationId } from '../../topics.js'
import type { ConversationAppend, Effect, GroupRecord, LogEntry, Role, Span, UserRecord } from '../store.js'

export interface EntryDocument {
  seq: number
  ts: number
  from: string
  device: string
  /** UTF-16 as bytes where the id is not text that UTF-8 can hold. */
  id: string | Binary
  payload: Binary
}

/** The entries after + 1 … last of a conversation, with what they do to the directory. Only the payload of an entry is ever changed. */
export interface SegmentDocument {
  _id: string
  conv: ConversationId
  after: number
  last: number
  /** Of the last entry. */
  ts: number
  entries: EntryDocument[]
  effects?: Effect[]
  retransmits?: ConversationAppend['retransmits']
}

/** What of the log was applied to the derived collections: all up to `head`. */
export interface ConversationDocument {
  _id: ConversationId
  head: number
  ts: number
  /** Seq of the last message of each sender, by `fieldOf(user)`. */
  sent?: Record<string, number>
}

export interface MemberDocument {
  _id: string
  conv: ConversationId
  user: string
  /** The entry up to which this is right. */
  at: number
  role?: Role | null
  mutedUntilTs?: number | null
  /** Not in a direct conversation. */
  spans?: Span[]
  read: number
}

export interface GroupDocument {
  _id: string
  at: number
  record: GroupRecord
}

export interface UserDocument extends UserRecord {
  _id: string
}

export interface RetransmitDocument {
  _id: string
  session: string
  /** See last-sends.ts. */
  last: string
}

/** The last three are there while the device has a stored session, `endedAt` is while it has none. */
export interface SessionDocument {
  _id: string
  user: string
  device: string
  epoch: number
  endedAt?: Date
  createdTs?: number
  seenTs?: number
  /** By `fieldOf(conv)`. */
  cursors?: Record<string, number>
}

export interface PairDocument {
  _id: string
  value: Binary
}

export interface MetaDocument {
  _id: string
  version?: number
  ts?: number
}

export interface Collections {
  meta: Collection<MetaDocument>
  messages: Collection<SegmentDocument>
  conversations: Collection<ConversationDocument>
  members: Collection<MemberDocument>
  groups: Collection<GroupDocument>
  users: Collection<UserDocument>
  retransmits: Collection<RetransmitDocument>
  sessions: Collection<SessionDocument>
  records: Collection<PairDocument>
  openTopics: Collection<PairDocument>
}

export const collectionsOf = (db: Db): Collections => ({
  meta: db.collection('meta'),
  messages: db.collection('messages'),
  conversations: db.collection('conversations'),
  members: db.collection('members'),
  groups: db.collection('groups'),
  users: db.collection('users'),
  retransmits: db.collection('retransmits'),
  sessions: db.collection('sessions'),
  records: db.collection('records'),
  openTopics: db.collection('open_topics'),
})

/** A device without a stored session that has not connected since. */
const endedSecondsMax = 30 * 86_400

export async function createIndexes({ messages, members, retransmits, sessions }: Collections): Promise<void> {
  await messages.createIndex({ conv: 1, last: 1 }, { unique: true })
  await messages.createIndex({ conv: 1, 'entries.id': 1, 'entries.from': 1 }, { unique: true })
  await members.createIndex({ user: 1 })
  await members.createIndex({ conv: 1 })
  await retransmits.createIndex({ session: 1 })
  await sessions.createIndex({ user: 1 })
}

/** Where the server knows such an index. */
export async function createExpiry({ sessions }: Collections): Promise<void> {
  await sessions.createIndex({ endedAt: 1 }, { expireAfterSeconds: endedSecondsMax })
}

const seqDigits = 16

/** Of the segment behind the entry `after`. */
export const segmentId = (conv: ConversationId, after: number): string => `${conv} ${String(after).padStart(seqDigits, '0')}`

/** Names have no blank. */
export const pairId = (first: string, second: string): string => `${first} ${second}`

/** The name of a field for a user or conversation: without a dot, and never one that objects have by themselves. */
export const fieldOf = (name: string): string => `=${name.replaceAll('.', '%')}`
export const nameOf = (field: string): string => field.slice(1).replaceAll('%', '.')

/** U+0000, and half of a surrogate pair. */
const notText = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

export const encodeId = (id: string): string | Binary => (notText.test(id) ? new Binary(Buffer.from(id, 'utf16le')) : id)
export const decodeId = (id: string | Binary): string => (typeof id === 'string' ? id : bytesOf(id).toString('utf16le'))

export const sentIdOf = ({ from, id }: EntryDocument): { from: string; id: string } => ({ from, id: decodeId(id) })

/** A view of a document's bytes. */
export const bytesOf = (binary: Binary): Buffer => Buffer.from(binary.buffer.buffer, binary.buffer.byteOffset, binary.position)

export const encodeEntry = ({ seq, ts, from, device, id, payload }: LogEntry): EntryDocument => ({
  seq,
  ts,
  from,
  device,
  id: encodeId(id),
  payload: new Binary(payload),
})

export const decodeEntry = ({ seq, ts, from, device, id, payload }: EntryDocument): LogEntry => ({
  seq,
  ts,
  from,
  device,
  id: decodeId(id),
  payload: bytesOf(payload),
})

export function groupedByUser<T extends { user: string }>(documents: readonly T[]): Map<string, T[]> {
  const byUser = new Map<string, T[]>()
  for (const document of documents) {
    const some = byUser.get(document.user)
    if (some === undefined) byUser.set(document.user, [document])
    else some.push(document)
  }
  return byUser
}
