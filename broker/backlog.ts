/**
 * What a session that connects has missed: pure arithmetic over the user's conversations, their heads and the session's
 * cursors. Called by the hub once per connect.
 */

import type { Range } from './session.js'
import type { ConversationRow, Span } from './store/store.js'
import { type Address, addressOf, type ConversationId } from './topics.js'

export interface Head {
  head: number
  ts: number
}

export interface BacklogLimits {
  sessionMax: number
  conversationMax: number
}

export interface BacklogPlan {
  ranges: Map<ConversationId, Range[]>
  heads: Record<Address, number>
  truncated: Record<Address, [number, number]> | undefined
}

/** `ready` names at most so many heads. */
const headsMax = 500

/** What of `from`…`to` the spans let through, in ascending order. */
export function visibleRanges(spans: readonly Span[] | undefined, from: number, to: number): Range[] {
  const ranges: Range[] = []
  for (const span of spans ?? [{ from: 1 }]) {
    const next = Math.max(from, span.from)
    const last = Math.min(to, span.to ?? to)
    if (next <= last) ranges.push({ next, last })
  }
  return ranges
}

/** The last seq that the user may see; 0 if none. */
export const visibleHead = (row: ConversationRow, head: number): number => visibleRanges(row.spans, 1, head).at(-1)?.last ?? 0

/** Unread = head − max(read, own last send, join), never below 0. */
export function unreadOf(row: ConversationRow, head: number): number {
  const joined = row.spans?.at(-1)?.from ?? 0
  return Math.max(0, visibleHead(row, head) - Math.max(row.read, row.sent, joined))
}

const countOf = (ranges: readonly Range[]): number => ranges.reduce((sum, { next, last }) => sum + last - next + 1, 0)

/** Cuts ranges at their old end to `max` messages; gives the first and last seq that were cut. */
function cut(ranges: Range[], max: number): [number, number] | undefined {
  let surplus = countOf(ranges) - max
  if (surplus <= 0) return undefined
  const first = (ranges[0] as Range).next
  let last = first
  while (surplus > 0) {
    const oldest = ranges[0] as Range
    const length = oldest.last - oldest.next + 1
    if (length <= surplus) {
      last = oldest.last
      ranges.shift()
    } else {
      oldest.next += surplus
      last = oldest.next - 1
    }
    surplus -= length
  }
  return [first, last]
}

/** Spans whose messages are sent by themselves, not only read. */
export const replayed = (spans: readonly Span[] | undefined): Span[] | undefined => spans?.filter(({ history }) => history !== true)

/** `cursors` undefined: a clean session, which has no backlog. `heads` stands in the order of `rows`. */
export function planBacklog(
  user: string,
  rows: readonly ConversationRow[],
  heads: readonly Head[],
  cursors: ReadonlyMap<ConversationId, number> | undefined,
  limits: BacklogLimits,
): BacklogPlan {
  const newestFirst = rows.map((row, index) => ({ row, ...(heads[index] as Head) })).sort((a, b) => b.ts - a.ts)
  const plan: BacklogPlan = { ranges: new Map(), heads: {}, truncated: undefined }
  let room = limits.sessionMax
  let named = 0
  for (const { row, head } of newestFirst) {
    const address = addressOf(row.conv, user)
    const ranges = cursors === undefined ? [] : visibleRanges(replayed(row.spans), (cursors.get(row.conv) ?? 0) + 1, head)
    if (named < headsMax && (ranges.length > 0 || unreadOf(row, head) > 0)) {
      plan.heads[address] = visibleHead(row, head)
      named++
    }
    const gone = cut(ranges, Math.min(limits.conversationMax, room))
    if (gone !== undefined) {
      plan.truncated ??= {}
      plan.truncated[address] = gone
    }
    room -= countOf(ranges)
    if (ranges.length > 0) plan.ranges.set(row.conv, ranges)
  }
  return plan
}
