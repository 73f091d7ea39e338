/**
 * What the log writer knows of a conversation at its head: enough to decide, without waiting, whether the next entry
 * may be written. Loaded from the store, kept in a bounded cache, changed only by the log writer.
 */
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
}

export const isMember = (group: GroupState, user: string): boolean => group.members.get(user)?.role !== undefined

export async function loadConversation(store: Store, conv: ConversationId): Promise<Conversation> {
  const [position] = await store.log.heads([conv])
  const { head, ts: lastTs } = position as { head: number; ts: number }
  if (!isGroup(conv)) {
    const users = await Promise.all(usersOf(conv).map((user) => store.directory.user(user)))
    return { conv, head, lastTs, group: undefined, usersKnown: users.every((user) => user !== undefined) }
  }
  const record = await store.directory.group(groupOf(conv))
  if (record === undefined) return { conv, head, lastTs, group: undefined, usersKnown: false }
  const members = new Map((await store.directory.members(record.group)).map((member) => [member.user, member]))
  return { conv, head, lastTs, group: { record, members, size: countMembers(members) }, usersKnown: false }
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
      conversation.group.members.set(effect.record.user, effect.record)
      conversation.group.size = countMembers(conversation.group.members)
    }
  }
}

/** The most conversations kept in memory; the oldest loaded go first. */
const cachedMax = 100_000

export class ConversationCache {
  readonly #states = new Map<ConversationId, Conversation>()

  constructor(readonly store: Store) {}

  /** Undefined: must be loaded. */
  peek(conv: ConversationId): Conversation | undefined {
    return this.#states.get(conv)
  }

  /** Not kept while a user or the group does not exist: it may come to be at any time. */
  async load(conv: ConversationId): Promise<Conversation> {
    const loaded = await loadConversation(this.store, conv)
    if (loaded.usersKnown || loaded.group !== undefined) this.keep(loaded)
    return loaded
  }

  keep(conversation: Conversation): void {
    this.#states.set(conversation.conv, conversation)
  }

  /** Makes room. Only between batches: what a batch has found here it must find again. */
  trim(): void {
    let surplus = this.#states.size - cachedMax
    for (const oldest of this.#states.keys()) {
      if (surplus-- <= 0) return
      this.#states.delete(oldest)
    }
  }

  /** Forgets what may be wrong: after a failed or lost append the store is asked again. */
  drop(conv: ConversationId): void {
    this.#states.delete(conv)
  }
}
