/**
 * The conversations that are written to, bounded. What a state says may be older than the store only where other nodes write too: an append
 * that builds on such a state is refused by the store, and what they tell of their entries (`learn`) keeps states from growing old. A
 * conversation that is held for a batch does not change under it.
 */
import { applyEffects, barsOf, type Conversation, type JudgeDirect, loadConversation } from './conversation.js'
import type { Effect, LogEntry, Store } from './store/store.js'
import { type ConversationId, isGroup, usersOf } from './topics.js'

/** The most conversations kept in memory; the oldest loaded go first. */
const cachedMax = 100_000
/** A change of another node whose word was lost is seen after so long. */
const judgedMsMax = 30_000
/** What is noted of one conversation while it is held: so many entries that do something, and what lies between. More is missed, and that shows. */
const heardMax = 64
/** What won against an append of this node is heard of within this, or read from the store. */
const newsMs = 200

/** Entries first … seq; only one of them if they have effects. */
interface Heard {
  first: number
  seq: number
  ts: number
  effects: readonly Effect[]
}

export class ConversationCache {
  readonly #states = new Map<ConversationId, Conversation>()
  /** Whose bars changed since they were found. */
  readonly #changed = new Set<ConversationId>()
  #settling: Promise<void> | undefined
  readonly #loading = new Set<ConversationId>()
  /** Those of batches under way, and what was heard of them meanwhile. */
  readonly #held = new Map<ConversationId, Heard[]>()
  /** Held ones whose append lost, by the head behind which it was to be. */
  readonly #lost = new Map<ConversationId, number>()
  /** Until it is heard what won. */
  readonly #awaited = new Map<ConversationId, NodeJS.Timeout>()

  constructor(
    readonly store: Store,
    readonly judge: JudgeDirect,
    /** Told when a conversation is no longer busy because what was awaited came, or did not. */
    readonly freed: () => void = () => undefined,
  ) {}

  /** As it is known; undefined: `load` has to look. */
  fresh(conv: ConversationId, nowMs: number): Conversation | undefined {
    const state = this.#states.get(conv)
    return state === undefined || nowMs - state.judgedMs > judgedMsMax ? undefined : state
  }

  /** Loads what is not here, and judges anew what was judged long ago. Not kept while a user or the group does not exist: it may come to be at any time. */
  async load(conv: ConversationId): Promise<Conversation> {
    const known = this.#states.get(conv)
    if (known !== undefined) return this.#rejudge(known)
    this.#loading.add(conv)
    try {
      const loaded = await loadConversation(this.store, conv, this.judge)
      for (const heard of this.#held.get(conv) ?? []) if (heard.first <= loaded.head + 1) goOn(loaded, heard)
      if (loaded.usersKnown || loaded.group !== undefined) this.keep(loaded)
      return loaded
    } finally {
      this.#loading.delete(conv)
    }
  }

  // --- what others change -------------------------------------------------------------------------------------------

  /** Who may write in a direct conversation has changed: what is decided after this call sees it. */
  changed(conv: ConversationId): void {
    if (this.#states.has(conv) || this.#loading.has(conv)) this.#changed.add(conv)
  }

  /** The same for every direct conversation of a user. Looks at all that are here. */
  changedOf(user: string): void {
    for (const convs of [this.#states.keys(), this.#loading])
      for (const conv of convs) if (!isGroup(conv) && usersOf(conv).includes(user)) this.#changed.add(conv)
  }

  /** Judges anew what has changed. Right before a batch is decided. */
  async settleChanges(): Promise<void> {
    while (this.#changed.size > 0 || this.#settling !== undefined) {
      this.#settling ??= this.#judgeChanged().finally(() => (this.#settling = undefined))
      await this.#settling
    }
  }

  async #judgeChanged(): Promise<void> {
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

  /**
   * Another node has written this entry, with these effects. A conversation that is here at the entry before goes on to it; one that has
   * missed more is forgotten.
   */
  learn(conv: ConversationId, { seq, ts }: Pick<LogEntry, 'seq' | 'ts'>, effects: readonly Effect[]): void {
    const heard = { first: seq, seq, ts, effects }
    const held = this.#held.get(conv)
    // Also while it is being loaded: the head that is read is older than that.
    if (held !== undefined) return note(held, heard)
    const state = this.#states.get(conv)
    if (state === undefined || seq <= state.head) return
    this.#follow(state, heard)
    this.#endAwaiting(conv)
  }

  #follow(state: Conversation, { first, seq, ts, effects }: Heard): void {
    if (seq <= state.head) return
    if (first > state.head + 1) return this.forget(state.conv)
    goOn(state, { first, seq, ts, effects })
  }

  /** What is known may be wrong, as after a failed or lost append, or of another node's entries whose effects nobody told: the store is asked again. */
  forget(conv: ConversationId): void {
    this.#states.delete(conv)
    this.#lost.delete(conv)
    this.#endAwaiting(conv)
  }

  // --- for batches ----------------------------------------------------------------------------------------------------

  /** Held for a batch, or what won against it is awaited. */
  isBusy = (conv: ConversationId): boolean => this.#held.has(conv) || this.#awaited.has(conv)

  /** Until `release` nobody else decides on it, and it stays as it is. */
  hold(conv: ConversationId): void {
    if (!this.#held.has(conv)) this.#held.set(conv, [])
  }

  /** What was heard meanwhile is followed. */
  release(conv: ConversationId): void {
    const heard = this.#held.get(conv)
    this.#held.delete(conv)
    if (heard === undefined) return
    for (const each of heard) {
      const state = this.#states.get(conv)
      if (state !== undefined) this.#follow(state, each)
    }
    const lost = this.#lost.get(conv)
    this.#lost.delete(conv)
    if (lost !== undefined && this.#states.get(conv)?.head === lost) this.#await(conv)
  }

  /**
   * The append of a held conversation behind `head` lost. What won is on its way here, and sooner than the store could tell it; so after the release
   * nobody decides on it before that was heard. Only of one that has done nothing but go on.
   */
  lost(state: Conversation, head: number): void {
    state.head = head
    this.keep(state)
    this.#lost.set(state.conv, head)
  }

  #await(conv: ConversationId): void {
    this.#awaited.set(
      conv,
      setTimeout(() => this.forget(conv), newsMs),
    )
  }

  #endAwaiting(conv: ConversationId): void {
    const timer = this.#awaited.get(conv)
    if (timer === undefined) return
    clearTimeout(timer)
    this.#awaited.delete(conv)
    this.freed()
  }

  keep(conversation: Conversation): void {
    this.#states.set(conversation.conv, conversation)
  }

  /** Makes room. */
  trim(): void {
    let surplus = this.#states.size - cachedMax
    for (const oldest of this.#states.keys()) {
      if (surplus-- <= 0) return
      if (!this.isBusy(oldest)) this.#states.delete(oldest)
    }
  }
}

function goOn(state: Conversation, { seq, ts, effects }: Heard): void {
  if (seq <= state.head) return
  state.head = seq
  state.lastTs = Math.max(ts, state.lastTs)
  applyEffects(state, effects)
}

function note(held: Heard[], heard: Heard): void {
  const last = held.at(-1)
  if (last?.seq === heard.first - 1 && last.effects.length === 0 && heard.effects.length === 0) {
    last.seq = heard.seq
    last.ts = Math.max(heard.ts, last.ts)
  } else if (held.length < heardMax) held.push(heard)
}
