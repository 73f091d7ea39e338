/**
 * What all views of a user's conversations share: his row of one of them, and its entries that he may see.
 * Nobody reads a seq at which he was not a member.
 */
import { visibleRanges } from '../../broker/backlog.js'
import { refuse } from '../../broker/errors.js'
import type { FoldableMessage } from '../../broker/fold.js'
import type { Caller } from '../../broker/plugin.js'
import type { ConversationRow, LogEntry, Store } from '../../broker/store/store.js'
import { type Address, type ConversationId, conversationOf, groupOf, isGroup, peerOf } from '../../broker/topics.js'

export const replyBytesMax = 192 * 1024

export const messageOf = (entry: LogEntry): FoldableMessage => JSON.parse(entry.payload.toString()) as FoldableMessage

/** The row of a conversation that the caller may read, or a Refusal. */
export async function readableRow({ directory }: Store, { user }: Caller, address: Address): Promise<ConversationRow> {
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

/** The last visible entries with seq < `before`, ascending; fewer than `limit` when they are large. */
export async function readBefore({ log }: Store, { conv, spans }: ConversationRow, before: number, limit: number): Promise<LogEntry[]> {
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
export async function readAfter(
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
