/**
 * What the log writer knows of a conversation at its head: enough to decide, without waiting, whether the next entry
 * may be written. Loaded from the store and changed only by what the log writer decides.
 */
import type { Refusal } from './errors.js'
import { isKnown } from './known-user.js'
import type { Effect, GroupRecord, MemberRecord, Store } from './store/store.js'
import { type ConversationId, groupOf, isGroup, usersOf } from './topics.js'

/** A group as it is at the head of its log. */
export interface GroupState {
  record: GroupRecord
  /** Present and past members. */
  members: Map<string, MemberRecord>
  /** Members that are in now. */
  size: number
}

export interface Conversation {
  readonly conv: ConversationId
  /** Last seq in the log. */
  head: number
  lastTs: number
  /** Set for a group that exists. */
  group: GroupState | undefined
  /** A direct conversation: both users are known. */
  usersKnown: boolean
  /** A direct conversation: who may not write in it, and why. */
  bars: Bars
  /** When `bars` was found, of a clock that never runs backwards. */
  judgedMs: number
  /** When it was last seen to be what the store has, of the same clock. */
  provenMs: number
}

export type Bars = ReadonlyMap<string, Refusal>

/** Why `from` may not write to `to`. */
export type JudgeDirect = (from: string, to: string) => Promise<Refusal | undefined>

const noBars: Bars = new Map()

export const isMember = (group: GroupState, user: string): boolean => group.members.get(user)?.role !== undefined

export async function barsOf(conv: ConversationId, judge: JudgeDirect): Promise<Bars> {
  const [a, b] = usersOf(conv)
  if (a === b) return noBars
  const [barOfA, barOfB] = await Promise.all([judge(a, b), judge(b, a)])
  if (barOfA === undefined && barOfB === undefined) return noBars
  const bars = new Map<string, Refusal>()
  if (barOfA !== undefined) bars.set(a, barOfA)
  if (barOfB !== undefined) bars.set(b, barOfB)
  return bars
}

/** The head is read first: what is read behind it may be newer, and then the next append is refused for its head. */
export async function loadConversation(store: Store, conv: ConversationId, judge: JudgeDirect): Promise<Conversation> {
  const provenMs = performance.now()
  const [position] = await store.log.heads([conv])
  const { head, ts: lastTs } = position as { head: number; ts: number }
  if (!isGroup(conv)) {
    const users = await Promise.all(usersOf(conv).map((user) => isKnown(store.directory, user)))
    const usersKnown = users.every((known) => known)
    const bars = usersKnown ? await barsOf(conv, judge) : noBars
    return { conv, head, lastTs, group: undefined, usersKnown, bars, judgedMs: provenMs, provenMs }
  }
  const record = await store.directory.group(groupOf(conv))
  const never = { usersKnown: false, bars: noBars, judgedMs: Number.POSITIVE_INFINITY, provenMs }
  if (record === undefined) return { conv, head, lastTs, group: undefined, ...never }
  const members = new Map((await store.directory.members(record.group)).map((member) => [member.user, member]))
  return { conv, head, lastTs, group: { record, members, size: countMembers(members) }, ...never }
}

function countMembers(members: Map<string, MemberRecord>): number {
  let size = 0
  for (const member of members.values()) if (member.role !== undefined) size++
  return size
}

/** Applies what an entry does to its group. */
export function applyEffects(conversation: Conversation, effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind === 'group') {
      if (conversation.group === undefined) conversation.group = { record: effect.record, members: new Map(), size: 0 }
      else conversation.group.record = effect.record
    } else if (conversation.group !== undefined) {
      const { group } = conversation
      const wasIn = isMember(group, effect.record.user)
      group.members.set(effect.record.user, effect.record)
      group.size += Number(isMember(group, effect.record.user)) - Number(wasIn)
    }
  }
}
