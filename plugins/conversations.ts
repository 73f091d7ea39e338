/**
 * What a user can read: owns the methods history, sync and conversations. All of it is a view of the log and the user's row of
 * a conversation; nobody reads a seq at which he was not a member.
 */
import { type Static, Type } from 'typebox'
import { type Head, unreadOf, visibleHead, visibleRanges } from '../broker/backlog.js'
import { type Delivered, positionOf } from '../broker/delivered.js'
import { refuse } from '../broker/errors.js'
import { type FoldableMessage, foldMessages, targetOf } from '../broker/fold.js'
import { addressSchema } from '../broker/payloads.js'
import { type Caller, method, type PluginFactory } from '../broker/plugin.js'
import type { ConversationRow, LogEntry, Store } from '../broker/store/store.js'
import { type Address, addressOf, type ConversationId, conversationOf, groupOf, isGroup, peerOf } from '../broker/topics.js'

const strict = { additionalProperties: false }
const replyBytesMax = 192 * 1024
const historyMax = 200
const historyDefault = 50
const syncMax = 1_000
/** How far behind a folded page the log is read for what speaks of its messages. */
const foldReadMax = 5_000
const foldBytesMax = 4 * 1_048_576
const headsMax = 1_000
const pageMax = 200
const pageDefault = 50

const seqSchema = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

const historySchema = Type.Object(
  {
    conv: addressSchema,
    before: Type.Optional(seqSchema),
    after: Type.Optional(seqSchema),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: historyMax })),
    fold: Type.Optional(Type.Boolean()),
  },
  strict,
)

const syncSchema = Type.Object(
  {
    cursors: Type.Optional(Type.Record(Type.String({ pattern: '^[ug]/[A-Za-z0-9_.~-]{1,64}$' }), seqSchema, strict)),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: syncMax })),
    fold: Type.Optional(Type.Boolean()),
  },
  strict,
)

const conversationsSchema = Type.Object(
  { limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageMax })), cursor: Type.Optional(Type.String({ maxLength: 512 })) },
  strict,
)

const messageOf = (entry: LogEntry): FoldableMessage => JSON.parse(entry.payload.toString()) as FoldableMessage

/** The row of a conversation that the caller may read, or a Refusal. */
async function readableRow({ directory }: Store, { user }: Caller, address: Address): Promise<ConversationRow> {
  const conv = conversationOf(address, user) as ConversationId
  const row = await directory.conversation(user, conv)
  if (row !== undefined) return row
  if (isGroup(conv)) {
    if ((await directory.group(groupOf(conv))) === undefined) throw refuse('not_found', `there is no group ${groupOf(conv)}`)
    throw refuse('forbidden', `you are not a member of ${address}`)
  }
  if ((await directory.user(peerOf(conv, user))) === undefined) throw refuse('not_found', `there is no user ${peerOf(conv, user)}`)
  return { conv, read: 0, sent: 0 }
}

async function history(store: Store, caller: Caller, params: Static<typeof historySchema>): Promise<object> {
  const { conv: address, before, after, limit = historyDefault, fold } = params
  if (before !== undefined && after !== undefined) throw refuse('invalid', 'give before or after, not both')
  const row = await readableRow(store, caller, address)
  const head = visibleHead(row, await store.log.head(row.conv))
  const entries =
    after === undefined
      ? await readBefore(store, row, Math.min(before ?? head + 1, head + 1), limit)
      : await readAfter(store, row, after, head, limit, replyBytesMax)
  if (fold !== true) return { messages: entries.map(messageOf), head }
  const [first, last] = [entries[0]?.seq, entries.at(-1)?.seq]
  if (first === undefined || last === undefined) return { messages: [], head }
  const later = await actionsBehind(store, row, last, head)
  const inPage = entries.map(messageOf)
  const messages = foldMessages([...inPage, ...later.actions]).filter((message) => targetOf(message) === undefined)
  return { messages, head, first, last, folded_to: later.to }
}

/** Every recall, edit and reaction carries one of these outside of any string. */
const actionMarks = ['"type":"recall"', '"type":"edit"', '"type":"reaction"'].map((mark) => Buffer.from(mark))

/** The visible actions behind `after`, as far as the log is read for it. */
async function actionsBehind(
  store: Store,
  row: ConversationRow,
  after: number,
  head: number,
): Promise<{ actions: FoldableMessage[]; to: number }> {
  const entries = await readAfter(store, row, after, head, foldReadMax, foldBytesMax)
  const marked = entries.filter(({ payload }) => actionMarks.some((mark) => payload.includes(mark)))
  const isAll = visibleRanges(row.spans, (entries.at(-1)?.seq ?? after) + 1, head).length === 0
  const to = isAll ? head : (entries.at(-1)?.seq ?? after)
  return { actions: marked.map(messageOf).filter((message) => targetOf(message) !== undefined), to }
}

/** The last visible entries with seq < `before`, ascending; fewer than `limit` when they are large. */
async function readBefore({ log }: Store, { conv, spans }: ConversationRow, before: number, limit: number): Promise<LogEntry[]> {
  let found: LogEntry[] = []
  let bytes = 0
  for (const { next, last } of visibleRanges(spans, 1, before - 1).reverse()) {
    const from = Math.max(next, last - (limit - found.length) + 1)
    let entries: LogEntry[] = []
    for (let at = from; at <= last; at = (entries.at(-1) as LogEntry).seq + 1) {
      const part = await log.read(conv, at, last, last - at + 1)
      if (part.length === 0) break
      entries = entries.concat(part)
    }
    const kept = entries.length
    let first = kept
    while (first > 0 && (bytes === 0 || bytes + (entries[first - 1] as LogEntry).payload.length <= replyBytesMax))
      bytes += (entries[--first] as LogEntry).payload.length
    found = entries.slice(first).concat(found)
    if (first > 0 || found.length >= limit) break
  }
  return found
}

/** The first visible entries behind `after`, ascending. */
async function readAfter(
  { log }: Store,
  { conv, spans }: ConversationRow,
  after: number,
  head: number,
  limit: number,
  bytesMax: number,
): Promise<LogEntry[]> {
  const found: LogEntry[] = []
  let bytes = 0
  for (const { next, last } of visibleRanges(spans, after + 1, head)) {
    for (let at = next; at <= last && found.length < limit && bytes < bytesMax; ) {
      const part = await log.read(conv, at, last, limit - found.length, bytesMax - bytes)
      if (part.length === 0) break
      for (const entry of part) bytes += entry.payload.length
      found.push(...part)
      at = (part.at(-1) as LogEntry).seq + 1
    }
  }
  return found
}

type RowAtHead = ConversationRow & Head

/** When a group that the user has left was last active is none of his business. */
async function visiblePosition({ log }: Store, row: ConversationRow, position: Head): Promise<Head> {
  const head = visibleHead(row, position.head)
  if (head === position.head) return position
  const [last] = await log.read(row.conv, head, head, 1)
  return { head: position.head, ts: last?.ts ?? 0 }
}

async function rowsNewestFirst(store: Store, user: string): Promise<RowAtHead[]> {
  const rows = await store.directory.conversationsOf(user)
  const heads = await store.log.heads(rows.map(({ conv }) => conv))
  const merged = await Promise.all(
    rows.map(async (row, index) => ({ ...row, ...(await visiblePosition(store, row, heads[index] as Head)) })),
  )
  return merged.sort((a, b) => b.ts - a.ts || (a.conv < b.conv ? -1 : 1))
}

async function sync(store: Store, { user }: Caller, { cursors = {}, limit = syncMax, fold }: Static<typeof syncSchema>): Promise<object> {
  const messages: FoldableMessage[] = []
  const heads: Record<Address, number> = {}
  let room = limit
  let bytes = replyBytesMax
  let more = false
  for (const [place, row] of (await rowsNewestFirst(store, user)).entries()) {
    const conv = addressOf(row.conv, user)
    const head = visibleHead(row, row.head)
    if (place < headsMax) heads[conv] = head
    const from = cursors[conv] ?? 0
    if (visibleRanges(row.spans, from + 1, head).length === 0) continue
    const entries = room > 0 && bytes > 0 ? await readAfter(store, row, from, head, room, bytes) : []
    for (const entry of entries) {
      messages.push({ conv, ...messageOf(entry) })
      bytes -= entry.payload.length
    }
    room -= entries.length
    if (entries.length === 0 || visibleRanges(row.spans, (entries.at(-1) as LogEntry).seq + 1, head).length > 0) more = true
  }
  return { messages: fold === true ? foldMessages(messages) : messages, heads, more }
}

/** A page ends at (ts, conv); the next one starts behind it. */
const pageCursor = ({ ts, conv }: RowAtHead): string => Buffer.from(JSON.stringify([ts, conv])).toString('base64url')

function parsePageCursor(cursor: string): [number, string] {
  try {
    const [ts, conv] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as [unknown, unknown]
    if (typeof ts === 'number' && typeof conv === 'string') return [ts, conv]
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error
  }
  throw refuse('invalid', 'cursor: not one that `next` of an earlier page gave')
}

async function conversations(
  store: Store,
  delivered: Delivered,
  { user }: Caller,
  { limit = pageDefault, cursor }: Static<typeof conversationsSchema>,
): Promise<object> {
  let rows = await rowsNewestFirst(store, user)
  if (cursor !== undefined) {
    const [ts, conv] = parsePageCursor(cursor)
    rows = rows.filter((row) => row.ts < ts || (row.ts === ts && row.conv > conv))
  }
  const page = rows.slice(0, limit)
  const list = await Promise.all(page.map((row) => describe(store, delivered, user, row)))
  return rows.length > limit ? { conversations: list, next: pageCursor(page.at(-1) as RowAtHead) } : { conversations: list }
}

async function describe(store: Store, delivered: Delivered, user: string, row: RowAtHead): Promise<object> {
  const head = visibleHead(row, row.head)
  const last = head === 0 ? undefined : (await store.log.read(row.conv, head, head, 1))[0]
  const described = {
    conv: addressOf(row.conv, user),
    head,
    unread: unreadOf(row, row.head),
    last: last === undefined ? undefined : messageOf(last),
  }
  if (isGroup(row.conv)) {
    const group = await store.directory.group(groupOf(row.conv))
    return { ...described, delivered: 0, read: 0, name: group?.name, member: row.spans?.at(-1)?.to === undefined }
  }
  const peer = await positionOf({ store, delivered }, peerOf(row.conv, user), row.conv)
  return { ...described, delivered: peer.delivered, read: peer.read }
}

export const createConversations: PluginFactory = ({ store, delivered }) => ({
  name: 'conversations',
  methods: {
    history: method(historySchema, (caller, params) => history(store, caller, params)),
    sync: method(syncSchema, (caller, params) => sync(store, caller, params)),
    conversations: method(conversationsSchema, (caller, params) => conversations(store, delivered, caller, params)),
  },
})
