/** The method sync: everything behind a client's cursors, over all conversations, in one request. */
import { type Static, Type } from 'typebox'
import { visibleHead, visibleRanges } from '../../broker/backlog.js'
import { type FoldableMessage, foldMessages } from '../../broker/fold.js'
import { messageSchema } from '../../broker/payloads.js'
import { type Caller, type Method, method, type PluginServer } from '../../broker/plugin.js'
import type { LogEntry } from '../../broker/store/store.js'
import { type Address, addressOf } from '../../broker/topics.js'
import { messageOf, readAfter, replyBytesMax } from './reading.js'

const strict = { additionalProperties: false }
const limitMax = 1_000
const headsMax = 1_000

const positionsSchema = Type.Record(
  Type.String({ pattern: '^[ug]/[A-Za-z0-9_.~-]{1,64}$' }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  strict,
)

const paramsSchema = Type.Object(
  {
    cursors: Type.Optional(positionsSchema),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limitMax })),
    fold: Type.Optional(Type.Boolean()),
  },
  strict,
)

const resultSchema = Type.Object({ messages: Type.Array(messageSchema), heads: positionsSchema, more: Type.Boolean() })

type SyncWorld = Pick<PluginServer, 'store' | 'lists'>

async function sync(
  { store, lists }: SyncWorld,
  { user }: Caller,
  { cursors = {}, limit = limitMax, fold }: Static<typeof paramsSchema>,
): Promise<object> {
  const messages: FoldableMessage[] = []
  const heads: Record<Address, number> = {}
  let room = limit
  let bytes = replyBytesMax
  let more = false
  for (const [place, row] of (await lists.of(user)).rows.entries()) {
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

export const syncMethod = (world: SyncWorld): Method => method(paramsSchema, (caller, params) => sync(world, caller, params), resultSchema)
