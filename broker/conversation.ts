/**
 * What the log writer knows of a conversation at its head: enough to decide, without waiting, whether the next entry
 * may be written. Loaded from the store, kept in a bounded cache, changed only by the log writer.
 */
import type { Refusal } from './errors.js'
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
}

type Bars = ReadonlyMap<string, Refusal>

/** Why `from` may not write to `to`. */
export type JudgeDirect = (from: string, to: string) => Promise<Refusal | undefined>

const noBars: Bars = new Map()
/** A change of another node whose word was lost is seen after so long. */
const judgedMsMax = 30_000

export const isMember = (group: GroupState, user: string): boolean => group.members.get(user)?.role !== undefined

async function barsOf(conv: ConversationId, judge: JudgeDirect): Promise<Bars> {
  const [a, b] = usersOf(conv)
  if (a === b) return noBars
  const [barOfA, barOfB] = await Promise.all([judge(a, b), judge(b, a)])
  if (barOfA === undefined && barOfB === undefined) return noBars
  const bars = new Map<string, Refusal>()
  if (barOfA !== undefined) bars.set(a, barOfA)
  if (barOfB !== undefined) bars.set(b, barOfB)
  return bars
}

async function loadConversation(store: Store, conv: ConversationId, judge: JudgeDirect): Promise<Conversation> {
  const [position] = await store.log.heads([conv])
  const { head, ts: lastTs } = position as { head: number; ts: number }
  if (!isGroup(conv)) {
    const judgedMs = performance.now()
    const users = await Promise.all(usersOf(conv).map((user) => store.directory.user(user)))
    const usersKnown = users.every((user) => user !== undefined)
    return { conv, head, lastTs, group: undefined, usersKnown, bars: usersKnown ? await barsOf(conv, judge) : noBars, judgedMs }
  }
  const record = await store.directory.group(groupOf(conv))
  const never = { usersKnown: false, bars: noBars, judgedMs: Number.POSITIVE_INFINITY }
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
      conversation.group.members.set(effect.record.user, effect.record)
      conversation.group.size = countMembers(conversation.group.members)
    }
  }
}

/** The most conversations kept in memory; the oldest loaded go first. */
const cachedMax = 100_000

export class ConversationCache {
  readonly #states = new Map<ConversationId, Conversation>()
  /** Whose bars changed since they were found. */
  readonly #changed = new Set<ConversationId>()
  #loading = 0

  constructor(
    readonly store: Store,
    readonly judge: JudgeDirect,
  ) {}

  /** Undefined: must be loaded. */
  peek(conv: ConversationId): Conversation | undefined {
    return this.#states.get(conv)
  }

  /** Loads what is not here and judges anew what was judged long ago; undefined: nothing to wait for. */
  freshen(conv: ConversationId, nowMs: number): Promise<Conversation> | undefined {
    const state = this.#states.get(conv)
    if (state === undefined) return this.#load(conv)
    return nowMs - state.judgedMs > judgedMsMax ? this.#rejudge(state) : undefined
  }

  /** Not kept while a user or the group does not exist: it may come to be at any time. */
  async #load(conv: ConversationId): Promise<Conversation> {
    this.#loading++
    try {
      const loaded = await loadConversation(this.store, conv, this.judge)
      if (loaded.usersKnown || loaded.group !== undefined) this.keep(loaded)
      return loaded
    } finally {
      this.#loading--
    }
  }

  /** Who may write in a direct conversation has changed: what is decided after this call sees it. */
  changed(conv: ConversationId): void {
    if (this.#states.has(conv) || this.#loading > 0) this.#changed.add(conv)
  }

  /** Judges anew what has changed. Right before a batch is decided. */
  async settleChanges(): Promise<void> {
    for (const conv of this.#changed) {
      const state = this.#states.get(conv)
      this.#changed.delete(conv)
      if (state !== undefined) await this.#rejudge(state)
    }
  }

  async #rejudge(state: Conversation): Promise<Conversation> {
    const nowMs = performance.now()
    try {
      state.bars = await barsOf(state.conv, this.judge)
      state.judgedMs = nowMs
    } catch (error) {
      this.#changed.add(state.conv)
      throw error
    }
    return state
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
