/**
 * The method conversations: a user's conversations by pages, pinned ones first, each part newest first. Counts nothing: head, unread and
 * what the peer has got are positions of the log. What a page holds is bounded in bytes too.
 */
import { type Static, Type } from 'typebox'
import { unreadOf, visibleHead } from '../../broker/backlog.js'
import { type Delivered, positionOf } from '../../broker/delivered.js'
import { refuse } from '../../broker/errors.js'
import { type FoldableMessage, foldMessages, targetOf } from '../../broker/fold.js'
import { addressSchema, messageSchema } from '../../broker/payloads.js'
import { type Caller, type Method, method } from '../../broker/plugin.js'
import type { Store } from '../../broker/store/store.js'
import { addressOf, groupOf, isGroup, peerOf } from '../../broker/topics.js'
import type { Preference, Preferences } from './preferences.js'
import { messageOf, type RowAtHead, readBefore, replyBytesMax, rowsNewestFirst } from './reading.js'

const pageMax = 200
const pageDefault = 50
/** Rows that are described at once. */
const rowsAtOnce = 50
/** How far back from the head a message is looked for that is none of recall, edit and reaction. */
const foldBackMax = 100

const paramsSchema = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageMax })),
    cursor: Type.Optional(Type.String({ maxLength: 512 })),
    fold: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

const countSchema = Type.Integer({ minimum: 0 })

const resultSchema = Type.Object({
  conversations: Type.Array(
    Type.Object({
      conv: addressSchema,
      head: countSchema,
      unread: countSchema,
      last: Type.Optional(messageSchema),
      delivered: countSchema,
      read: countSchema,
      pinned: Type.Optional(Type.Literal(true)),
      muted_until: Type.Optional(countSchema),
      name: Type.Optional(Type.String()),
      avatar_url: Type.Optional(Type.String()),
      member: Type.Optional(Type.Boolean()),
    }),
  ),
  next: Type.Optional(Type.String()),
})

interface ListWorld {
  store: Store
  delivered: Delivered
  preferences: Preferences
}

type Row = RowAtHead & Preference

/** A page ends at a row; the next one starts behind it. */
type Place = [isPinned: boolean, ts: number, conv: string]

const cursorOf = ({ pinned, ts, conv }: Row): string => Buffer.from(JSON.stringify([pinned === true, ts, conv])).toString('base64url')

function placeOf(cursor: string): Place {
  try {
    const [isPinned, ts, conv] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    if (typeof isPinned === 'boolean' && typeof ts === 'number' && typeof conv === 'string') return [isPinned, ts, conv]
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error
  }
  throw refuse('invalid', 'cursor: not one that `next` of an earlier page gave')
}

function isBehind(row: Row, [isPinned, ts, conv]: Place): boolean {
  if ((row.pinned === true) !== isPinned) return isPinned
  return row.ts < ts || (row.ts === ts && row.conv > conv)
}

async function rowsInOrder({ store, preferences }: ListWorld, user: string): Promise<Row[]> {
  const [rows, preferred] = await Promise.all([rowsNewestFirst(store, user), preferences.of(user)])
  if (preferred.size === 0) return rows
  const all: Row[] = rows.map((row) => ({ ...row, ...preferred.get(row.conv) }))
  return [...all.filter(({ pinned }) => pinned), ...all.filter(({ pinned }) => !pinned)]
}

async function list(
  world: ListWorld,
  { user }: Caller,
  { limit = pageDefault, cursor, fold = true }: Static<typeof paramsSchema>,
): Promise<object> {
  const place = cursor === undefined ? undefined : placeOf(cursor)
  const all = await rowsInOrder(world, user)
  const rows = place === undefined ? all : all.filter((row) => isBehind(row, place))
  const page: object[] = []
  let bytes = 0
  for (let at = 0; at < rows.length && page.length < limit; at += rowsAtOnce) {
    const some = rows.slice(at, Math.min(at + rowsAtOnce, limit))
    for (const described of await Promise.all(some.map((row) => describe(world, user, row, fold)))) {
      bytes += Buffer.byteLength(JSON.stringify(described))
      if (bytes > replyBytesMax && page.length > 0) return { conversations: page, next: cursorOf(rows[page.length - 1] as Row) }
      page.push(described)
    }
  }
  return rows.length > page.length ? { conversations: page, next: cursorOf(rows[page.length - 1] as Row) } : { conversations: page }
}

async function describe({ store, delivered }: ListWorld, user: string, row: Row, fold: boolean): Promise<object> {
  const described = {
    conv: addressOf(row.conv, user),
    head: visibleHead(row, row.head),
    unread: unreadOf(row, row.head),
    last: await lastOf(store, row, fold),
  }
  const own = { pinned: row.pinned, muted_until: row.muted_until }
  if (isGroup(row.conv)) {
    const group = await store.directory.group(groupOf(row.conv))
    const { name, avatar_url } = group ?? {}
    return { ...described, delivered: 0, read: 0, ...own, name, avatar_url, member: row.spans?.at(-1)?.to === undefined }
  }
  const peer = await positionOf({ store, delivered }, peerOf(row.conv, user), row.conv)
  return { ...described, delivered: peer.delivered, read: peer.read, ...own }
}

/** The entry at the head; folded: the last message, with what was made of it since. */
async function lastOf(store: Store, row: Row, fold: boolean): Promise<FoldableMessage | undefined> {
  const behind = visibleHead(row, row.head) + 1
  const [entry] = await readBefore(store, row, behind, 1)
  if (entry === undefined) return undefined
  const newest = messageOf(entry)
  if (!fold || targetOf(newest) === undefined) return newest
  const entries = await readBefore(store, row, behind, foldBackMax)
  const folded = foldMessages(entries.map(messageOf))
  return folded.findLast((message) => targetOf(message) === undefined) ?? newest
}

export const listMethod = (world: ListWorld): Method => method(paramsSchema, (caller, params) => list(world, caller, params), resultSchema)
