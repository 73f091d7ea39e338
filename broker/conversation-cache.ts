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
/** Entries of one conversation that are noted while it is held; more are missed, and that shows. */
const heardMax = 64

interface Heard {
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

  constructor(
    readonly store: Store,
    readonly judge: JudgeDirect,
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
    const state = this.#states.get(conv)
    if (state === undefined || seq <= state.head) return
    const held = this.#held.get(conv)
    if (held === undefined) this.#follow(state, { seq, ts, effects })
    else if (held.length < heardMax) held.push({ seq, ts, effects })
  }

  #follow(state: Conversation, { seq, ts, effects }: Heard): void {
    if (seq <= state.head) return
    if (seq > state.head + 1) return this.forget(state.conv)
    state.head = seq
    state.lastTs = Math.max(ts, state.lastTs)
    applyEffects(state, effects)
  }

  /** What is known may be wrong, as after a failed or lost append, or of another node's entries whose effects nobody told: the store is asked again. */
  forget(conv: ConversationId): void {
    this.#states.delete(conv)
  }

  // --- for batches ----------------------------------------------------------------------------------------------------

  isHeld = (conv: ConversationId): boolean => this.#held.has(conv)

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
  }

  keep(conversation: Conversation): void {
    this.#states.set(conversation.conv, conversation)
  }

  /** Makes room. */
  trim(): void {
    let surplus = this.#states.size - cachedMax
    for (const oldest of this.#states.keys()) {
      if (surplus-- <= 0) return
      if (!this.#held.has(oldest)) this.#states.delete(oldest)
    }
  }
}
