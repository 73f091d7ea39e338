/**
 * The method conversations: a user's conversations by pages, pinned ones first, each part newest first. Counts nothing: head, unread and
 * what the peer has got are positions of the log. What a page holds is bounded in bytes too.
 */
import { type Static, Type } from 'typebox'
import { unreadOf, visibleHead, visibleRanges } from '../../broker/backlog.js'
import { type Delivered, positionsOf } from '../../broker/delivered.js'
import { refuse } from '../../broker/errors.js'
import { type FoldableMessage, foldMessages, targetOf } from '../../broker/fold.js'
import type { List, Lists } from '../../broker/lists.js'
import { addressSchema, messageSchema } from '../../broker/payloads.js'
import { type Caller, type Method, method } from '../../broker/plugin.js'
import type { LogEntry, RowAtHead, Store } from '../../broker/store/store.js'
import { addressOf, type ConversationId, groupOf, isGroup, peerOf } from '../../broker/topics.js'
import type { Preference, Preferences } from './preferences.js'
import { messageOf, readBefore, replyBytesMax } from './reading.js'

const pageMax = 200
const pageDefault = 50
/** Rows that are described at once. */
const rowsAtOnce = 50
/** How far back from the head a message is looked for that is none of recall, edit and reaction: so far for all rows at once, and then each by itself. */
const foldBackMin = 8
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
  lists: Lists
  delivered: Delivered
  preferences: Preferences
}

/** All rows of a user, pinned ones first, and what he has set for some of them. */
interface Ordered extends List {
  preferred: ReadonlyMap<ConversationId, Preference>
}

/** A page ends at a row; the next one starts behind it. */
type Place = [pinned: boolean, ts: number, conv: string]

const isPinned = ({ preferred }: Ordered, { conv }: RowAtHead): boolean => preferred.get(conv)?.pinned === true

const cursorOf = (ordered: Ordered, row: RowAtHead): string =>
  Buffer.from(JSON.stringify([isPinned(ordered, row), row.ts, row.conv])).toString('base64url')

function placeOf(cursor: string): Place {
  try {
    const [pinned, ts, conv] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    if (typeof pinned === 'boolean' && typeof ts === 'number' && typeof conv === 'string') return [pinned, ts, conv]
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error
  }
  throw refuse('invalid', 'cursor: not one that `next` of an earlier page gave')
}

function isBehind(ordered: Ordered, row: RowAtHead, [pinned, ts, conv]: Place): boolean {
  if (isPinned(ordered, row) !== pinned) return pinned
  return row.ts < ts || (row.ts === ts && row.conv > conv)
}

async function rowsInOrder({ lists, preferences }: ListWorld, user: string): Promise<Ordered> {
  const [list, preferred] = await Promise.all([lists.of(user), preferences.of(user)])
  const all: Ordered = { ...list, preferred }
  if (preferred.size === 0) return all
  return { ...all, rows: [...all.rows.filter((row) => isPinned(all, row)), ...all.rows.filter((row) => !isPinned(all, row))] }
}

async function list(
  world: ListWorld,
  { user }: Caller,
  { limit = pageDefault, cursor, fold = true }: Static<typeof paramsSchema>,
): Promise<object> {
  const place = cursor === undefined ? undefined : placeOf(cursor)
  const all = await rowsInOrder(world, user)
  const rows = place === undefined ? all.rows : all.rows.filter((row) => isBehind(all, row, place))
  const page: object[] = []
  let bytes = 0
  for (let at = 0; at < rows.length && page.length < limit; at += rowsAtOnce) {
    const some = rows.slice(at, Math.min(at + rowsAtOnce, limit))
    for (const described of await describe(world, user, await all.current(some), fold)) {
      const whole = { ...described, ...all.preferred.get((rows[page.length] as RowAtHead).conv) }
      bytes += Buffer.byteLength(JSON.stringify(whole))
      if (bytes > replyBytesMax && page.length > 0) return { conversations: page, next: cursorOf(all, rows[page.length - 1] as RowAtHead) }
      page.push(whole)
    }
  }
  const last = rows[page.length - 1]
  return last !== undefined && rows.length > page.length ? { conversations: page, next: cursorOf(all, last) } : { conversations: page }
}

/** Asks the store as often for many rows as for one. */
async function describe(world: ListWorld, user: string, rows: readonly RowAtHead[], fold: boolean): Promise<object[]> {
  const { store } = world
  const convs = rows.map(({ conv }) => conv)
  const groups = convs.filter(isGroup)
  const directs = convs.filter((conv) => !isGroup(conv))
  const [lasts, records, positions] = await Promise.all([
    lastsOf(store, rows, fold),
    store.directory.groups(groups.map(groupOf)),
    positionsOf(
      world,
      directs.map((conv) => ({ user: peerOf(conv, user), conv })),
    ),
  ])
  const recordOf = new Map(groups.map((conv, at) => [conv, records[at]]))
  const positionOf = new Map(directs.map((conv, at) => [conv, positions[at]]))
  return rows.map((row, at) => {
    const { conv } = row
    const described = { conv: addressOf(conv, user), head: visibleHead(row, row.head), unread: unreadOf(row, row.head), last: lasts[at] }
    if (isGroup(conv)) {
      const { name, avatar_url } = recordOf.get(conv) ?? {}
      const member = row.spans?.at(-1)?.to === undefined
      return { ...described, delivered: 0, read: 0, name, avatar_url, member }
    }
    const { delivered = 0, read = 0 } = positionOf.get(conv) ?? {}
    return { ...described, delivered, read }
  })
}

/** Of each row the entry at the head; folded: the last message, with what was made of it since. */
async function lastsOf(store: Store, rows: readonly RowAtHead[], fold: boolean): Promise<(FoldableMessage | undefined)[]> {
  const newest = await tailsOf(store, rows, 1)
  const lasts = newest.map(([entry]) => entry && messageOf(entry))
  const isAction = (last: FoldableMessage | undefined): boolean => last !== undefined && targetOf(last) !== undefined
  const acted = fold ? [...rows.keys()].filter((at) => isAction(lasts[at])) : []
  if (acted.length === 0) return lasts
  const tails = await tailsOf(
    store,
    acted.map((at) => rows[at] as RowAtHead),
    foldBackMin,
  )
  for (const [index, at] of acted.entries()) {
    const message = lastMessage(tails[index] as LogEntry[]) ?? lastMessage(await readBack(store, rows[at] as RowAtHead))
    if (message !== undefined) lasts[at] = message
  }
  return lasts
}

/** The last visible entries of each row, ascending. */
async function tailsOf(store: Store, rows: readonly RowAtHead[], length: number): Promise<LogEntry[][]> {
  const places = rows.map((row) => lastSeqs(row, length).map((seq) => ({ conv: row.conv, seq })))
  const entries = await store.log.readEach(places.flat())
  let at = 0
  return places.map((some) => {
    const tail = entries.slice(at, at + some.length)
    at += some.length
    return tail.filter((entry) => entry !== undefined)
  })
}

/** What the last message among them is, with all that these say of it; undefined when they are nothing but recalls, edits and reactions. */
const lastMessage = (entries: readonly LogEntry[]): FoldableMessage | undefined =>
  foldMessages(entries.map(messageOf)).findLast((message) => targetOf(message) === undefined)

const readBack = (store: Store, row: RowAtHead): Promise<LogEntry[]> => readBefore(store, row, visibleHead(row, row.head) + 1, foldBackMax)

function lastSeqs({ spans, head }: RowAtHead, length: number): number[] {
  const seqs: number[] = []
  for (const { next, last } of visibleRanges(spans, 1, head).reverse())
    for (let seq = last; seq >= next && seqs.length < length; seq--) seqs.push(seq)
  return seqs.reverse()
}

export const listMethod = (world: ListWorld): Method => method(paramsSchema, (caller, params) => list(world, caller, params), resultSchema)
