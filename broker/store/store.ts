/**
 * What Parley needs of a store. Every implementation passes `test/contract/`; where a contract below and an
 * implementation differ, the implementation is wrong.
 *
 * Durability: a promise of a writing method resolves when the write survives kill -9 and power loss, and rejects
 * with `StoreUnavailable` when the store cannot be written now (disk full, no primary). After a rejection
 * nothing of that call is visible, or the implementation finds out by itself when the call is repeated.
 */
import type { ConversationId } from '../topics.js'

/** The store cannot be written or read now; the call may be repeated later. */
export class StoreUnavailable extends Error {
  override name = 'StoreUnavailable'
}

/** One entry of a conversation's log. */
export interface LogEntry {
  /** 1, 2, 3 … in each conversation. */
  seq: number
  /** Server time, ms since 1970. */
  ts: number
  from: string
  /** The sender's device id; '' when no session sent it. Never shown to others. */
  device: string
  /** Message id, unique per (conversation, sender). */
  id: string
  /** The stored form as UTF-8 JSON, exactly as it is delivered, `seq` and `ts` included. */
  payload: Buffer
}

/** A send without an id of its own, remembered so that its MQTT retransmission can be recognised. */
export interface Retransmit {
  /** `user/device` of the sending session. */
  session: string
  packetId: number
  /** Digest of topic and payload. */
  digest: string
  /** Of the connect over which it came. */
  epoch: number
  /** Rises with each send of a connect, so that `epoch` and it say which of two sends of a device is the later one. */
  order: number
}

export type Role = 'owner' | 'admin' | 'member'

/** Sequence numbers that a member may see; both ends inclusive, `to` undefined while a member. */
export interface Span {
  from: number
  to?: number
  /** Said before the user came: his to read, not to be replayed. */
  history?: true
}

export interface MemberRecord {
  user: string
  /** undefined: was a member once. */
  role: Role | undefined
  /** When the user may see what; ascending, not overlapping; the last one is open for a present member. */
  spans: Span[]
  /** May not write until then, ms; 0 and undefined: may. */
  mutedUntilTs?: number
}

export interface GroupRecord {
  group: string
  name: string
  createdTs: number
  membersMax: number
  dissolved?: boolean
  avatar_url?: string
  announcement?: string
  /** What later members read: from their join on, or everything. undefined: `join`. */
  history?: 'join' | 'all'
  /** Only owner and admins may write until then, ms; 0 and undefined: everybody may. */
  mutedUntilTs?: number
}

/** What one append does to the directory, in the same commit. */
export type Effect = { kind: 'group'; record: GroupRecord } | { kind: 'member'; group: string; record: MemberRecord }

/** Entries of one conversation, to be written at `head` + 1 … */
export interface ConversationAppend {
  conv: ConversationId
  /** The head that the writer knows; entries[0].seq === head + 1 and so on without a gap. */
  head: number
  entries: LogEntry[]
  effects: Effect[]
  retransmits: (Retransmit & { seq: number })[]
}

/** Names a send for ever. */
export interface SentKey {
  conv: ConversationId
  from: string
  id: string
}

/** Where an entry stands. */
export interface LogPlace {
  conv: ConversationId
  seq: number
}

/** What is known of an earlier send. */
export interface SentRecord {
  conv: ConversationId
  seq: number
}

/** A send without id, and where it is stored. */
export interface StoredRetransmit extends Omit<Retransmit, 'order'>, SentRecord {
  ts: number
  /** 0 from a store of one process, which gets what a device sends in its order. */
  epoch: number
}

/** Payload bytes that `MessageLog.read` returns where its caller names no bound. */
export const readBytesMax = 4 * 1024 * 1024

export interface HeardEntry {
  conv: ConversationId
  entry: LogEntry
  isEnd?: boolean
}

export interface MessageLog {
  /**
   * Writes the entries of all conversations in one commit.
   * Atomic per conversation: all its entries with effects, the index (conv, from, id) → seq, `sent` positions and the
   * conversation's row for every direct participant, or nothing. Resolves when durable, with the conversations whose
   * head was no longer `head` (another writer was faster): for these nothing was written.
   * Never leaves a gap: if seq n can be read, so can 1 … n−1.
   */
  append(batch: readonly ConversationAppend[]): Promise<ConversationId[]>
  /**
   * Another node has written this; `isEnd`: what follows it was written later. What it says is true, and some of it may never be told: it only
   * spares questions.
   */
  heard?(told: HeardEntry): void
  /** The last seq, 0 for a conversation without entries. */
  head(conv: ConversationId): Promise<number>
  /** Head and ts of the last entry of each; 0 and 0 where there is none. Same order as asked. */
  heads(convs: readonly ConversationId[]): Promise<{ head: number; ts: number }[]>
  /** The seq under which (conv, from, id) is stored, for ever. Sees all that append has resolved. */
  findSent(conv: ConversationId, from: string, id: string): Promise<number | undefined>
  /** The same for many, in the order asked; the log writer calls it once per batch. */
  findSentAll(keys: readonly SentKey[]): Promise<(number | undefined)[]>
  /**
   * The last send without id of this session under this packet id, or under another whose last eight bits are the same: the last 256 are
   * kept. The last is the latest by epoch and order, however late an append was.
   */
  findRetransmit(session: string, packetId: number): Promise<StoredRetransmit | undefined>
  /** Entries from…to (inclusive) in ascending seq, at most `limit` and about `bytesMax` of payload, at least one if there is one. */
  read(conv: ConversationId, from: number, to: number, limit: number, bytesMax?: number): Promise<LogEntry[]>
  /** The entry at each of these places, in the order asked; undefined where there is none. Costs no more commands for many than for few. */
  readEach(places: readonly LogPlace[]): Promise<(LogEntry | undefined)[]>
  /**
   * Puts payloads in the place of those of entries that are there, by seq, and takes away their device; seq, ts, from and id stay, so a
   * resend is found as before. Readers see the old or the new one. Durable when it resolves; when it rejects, some may be done.
   */
  rewrite(conv: ConversationId, payloads: ReadonlyMap<number, Buffer>): Promise<void>
  /** Takes what was rewritten before this call out of every place that the store keeps for itself, as far as it can; docs/operations.md says what is left. */
  scrub(): Promise<void>
  /** Every conversation that has entries, in the order of their names, behind `after`. What comes to be meanwhile may be missing. */
  conversations(after?: ConversationId): AsyncIterable<ConversationId>
  /** All that `findRetransmit` knows, in the order of sessions. */
  retransmits(): AsyncIterable<StoredRetransmit>
}

/** One row of a user's list of conversations. */
export interface ConversationRow {
  conv: ConversationId
  /** Read position; 0 if nothing was read. */
  read: number
  /** Seq of the user's own last message; 0 if there is none. */
  sent: number
  /** Spans of a group; undefined in a direct conversation (all of it is visible). */
  spans?: Span[]
}

/** `head` is 0 for a conversation without entries, and `ts` then, too. */
export interface RowAtHead extends ConversationRow {
  head: number
  /** Of the last entry. */
  ts: number
}

export interface UserRecord {
  user: string
  createdTs: number
  /** Tokens issued before this (s since 1970) are refused. */
  tokensFrom?: number
  /** When he was erased, ms: the id is never used again. */
  erasedTs?: number
}

export interface Directory {
  user(user: string): Promise<UserRecord | undefined>
  /** Creates or replaces. `user` reads it from the call on; durable when it resolves, and as it was before when it rejects. */
  putUser(record: UserRecord): Promise<void>
  /** Creates one who is not there, and leaves one who is as he is. Durable when it resolves. */
  addUser(record: UserRecord): Promise<void>
  /** Everybody, in the order of ids. */
  users(): AsyncIterable<UserRecord>
  group(group: string): Promise<GroupRecord | undefined>
  /** Each of these groups, in the order asked. */
  groups(groups: readonly string[]): Promise<(GroupRecord | undefined)[]>
  /** All members, present and past. */
  members(group: string): Promise<MemberRecord[]>
  /** The same, each with his read position; 0 if nothing was read. */
  membersWithReads(group: string): Promise<(MemberRecord & { read: number })[]>
  member(group: string, user: string): Promise<MemberRecord | undefined>
  /** Every conversation the user takes or took part in, in no particular order. */
  conversationsOf(user: string): Promise<ConversationRow[]>
  /**
   * The same, each with a head; what the row says of memberships is as new as that, or newer. Of `convs` only, those of them that are his. Sees all
   * that append has resolved; of an entry whose writer has ended before it did, perhaps not yet what `log.head` says.
   */
  conversationsAtHead(user: string, convs?: readonly ConversationId[]): Promise<RowAtHead[]>
  conversation(user: string, conv: ConversationId): Promise<ConversationRow | undefined>
  /** Read positions, in the order asked; 0 where nothing was read. */
  reads(places: readonly { user: string; conv: ConversationId }[]): Promise<number[]>
  /** Moves read positions forwards; a lower one changes nothing. One commit. */
  setRead(positions: readonly { user: string; conv: ConversationId; seq: number }[]): Promise<void>
}

export interface SessionRecord {
  user: string
  device: string
  createdTs: number
  /** When the session was last seen connected, ms. */
  seenTs: number
  /** Of the connect that wrote it, or a later one. */
  epoch: number
}

export interface MovedCursor {
  user: string
  device: string
  epoch: number
  conv: ConversationId
  seq: number
}

/**
 * Cursors of persistent sessions: per conversation the last seq of the acknowledged prefix. Each connect of a device takes its next epoch;
 * what comes with an epoch that is not the device's last one changes nothing, so that a node which lost the device, and has not
 * heard of it, cannot undo what the later session writes.
 */
export interface SessionStore {
  /**
   * Takes the next epoch of the device, higher than all that were taken of it before on whatever node, and gives its stored session if there
   * is one.
   */
  open(user: string, device: string): Promise<{ epoch: number; stored: SessionRecord | undefined }>
  /** The last epoch that was taken of the device, on whatever node; 0: none is known. */
  lastEpoch(user: string, device: string): Promise<number>
  /** The stored session, or undefined. */
  get(user: string, device: string): Promise<SessionRecord | undefined>
  list(user: string): Promise<SessionRecord[]>
  /** Those of everybody, in the order of users; with `seenBeforeTs` only those last seen earlier. */
  all(seenBeforeTs?: number): AsyncIterable<SessionRecord>
  /** Creates the session with these cursors, in place of an older one of that name. */
  create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void>
  /** All cursors of the session; a conversation without one starts at 0. */
  cursors(user: string, device: string): Promise<Map<ConversationId, number>>
  /**
   * Written behind, in one commit; each replaces the earlier value. A session that was removed meanwhile is left alone.
   * `seenTs` is set for every session named.
   */
  saveCursors(cursors: readonly MovedCursor[], seenTs: number): Promise<void>
  /** Sets when these sessions were seen, in one commit. One that does not exist is left alone. */
  touch(sessions: readonly { user: string; device: string }[], seenTs: number): Promise<void>
  /** Without an epoch whatever session is stored. */
  remove(user: string, device: string, epoch?: number): Promise<void>
}

/** A small durable map. Keys have 1 to 1,024 bytes and are ordered by them. Writes to one key keep their order. */
export interface KeyValueStore {
  /** What was put last, a put that is not durable yet perhaps not included. */
  get(key: string): Promise<Buffer | undefined>
  /** The same for many, in the order asked. */
  getAll(keys: readonly string[]): Promise<(Buffer | undefined)[]>
  put(key: string, value: Buffer): Promise<void>
  /** Puts it unless there is one; whether it did. Of several at once, on whatever nodes, one does. */
  add(key: string, value: Buffer): Promise<boolean>
  remove(key: string): Promise<void>
  /** All pairs whose key starts with `prefix`, in key order. */
  entries(prefix: string): AsyncIterable<{ key: string; value: Buffer }>
}

export interface Store {
  /** Others write to it too: what was read a moment ago may be old. */
  readonly isShared: boolean
  readonly log: MessageLog
  readonly directory: Directory
  readonly sessions: SessionStore
  /** Aedes' state of open topics: retained messages, subscriptions, queues. */
  readonly openTopics: KeyValueStore
  /** What features keep beside the log. A key begins with the plural of its kind and a slash (`blocks/alice/bob`), one owner each. */
  readonly records: KeyValueStore
  /** Proves that a write can be committed now; rejects with StoreUnavailable. */
  check(): Promise<void>
  /** Resolves when everything written is on disk and the store is released. */
  close(): Promise<void>
}
