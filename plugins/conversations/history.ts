/** The method history: one conversation, page by page, as it is in the log or folded. */
import { type Static, Type } from 'typebox'
import { visibleHead, visibleRanges } from '../../broker/backlog.js'
import { refuse } from '../../broker/errors.js'
import { type FoldableMessage, foldMessages, isAction, targetOf } from '../../broker/fold.js'
import { addressSchema, messageSchema } from '../../broker/payloads.js'
import { type Caller, type Method, method } from '../../broker/plugin.js'
import type { ConversationRow, Store } from '../../broker/store/store.js'
import { type ConversationId, conversationOf } from '../../broker/topics.js'
import { messageOf, readAfter, readableRow, readBefore, replyBytesMax } from './reading.js'

const limitMax = 200
const limitDefault = 50
/** How far behind a folded page the log is read for what speaks of its messages. */
const foldReadMax = 5_000
const foldBytesMax = 4 * 1_048_576

const positionSchema = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

const paramsSchema = Type.Object(
  {
    conv: addressSchema,
    before: Type.Optional(positionSchema),
    after: Type.Optional(positionSchema),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limitMax })),
    fold: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

const resultSchema = Type.Object({
  messages: Type.Array(messageSchema),
  head: positionSchema,
  first: Type.Optional(positionSchema),
  last: Type.Optional(positionSchema),
  folded_to: Type.Optional(positionSchema),
})

async function history(store: Store, caller: Caller, params: Static<typeof paramsSchema>): Promise<object> {
  const { conv: address, before, after, limit = limitDefault, fold } = params
  if (before !== undefined && after !== undefined) throw refuse('invalid', 'give before or after, not both')
  // Before the row: who is removed meanwhile must not see what follows.
  const last = await store.log.head(conversationOf(address, caller.user) as ConversationId)
  const row = await readableRow(store, caller, address)
  const head = visibleHead(row, last)
  const entries =
    after === undefined
      ? await readBefore(store, row, Math.min(before ?? head + 1, head + 1), limit)
      : await readAfter(store, row, after, head, limit, replyBytesMax)
  if (fold !== true) return { messages: entries.map(messageOf), head }
  const [from, to] = [entries[0]?.seq, entries.at(-1)?.seq]
  if (from === undefined || to === undefined) return { messages: [], head }
  const later = await actionsBehind(store, row, to, head)
  const inPage = entries.map(messageOf)
  const messages = foldMessages([...inPage, ...later.actions]).filter((message) => !isAction(message))
  return { messages, head, first: from, last: to, folded_to: later.to }
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

export const historyMethod = (store: Store): Method =>
  method(paramsSchema, (caller, params) => history(store, caller, params), resultSchema)
