/**
 * The one way into the log. Operations of all clients queue here; a batch takes what has collected, decides each in
 * order with the state at the head, commits all in one append, then answers and dispatches in log order.
 * Guarantees: an operation is answered after its entry is durable, or refused with nothing written, and never on what another
 * node had already changed when it came; the order in a conversation is the order of `submit`; the same (conversation, sender, id) is
 * stored once; a store that fails is tried again for `retryMs`, then the operations waiting are failed, unacknowledged.
 *
 * A store of this process alone takes one append after the other, and the next batch is decided while one is written: `#pipeline`. A
 * store that nodes share is far away, so several appends are under way, each of other conversations: `#lane`. There two appends in a row of
 * one conversation would not do, as another node may have taken the place of the first.
 */
import { Answers } from './answers.js'
import type { Conversation, JudgeDirect } from './conversation.js'
import { ConversationCache } from './conversation-cache.js'
import { Doubts } from './doubts.js'
import { refuse } from './errors.js'
import { LateAppends } from './late-appends.js'
import type { Logger } from './logger.js'
import type { Operation } from './operation.js'
import type { Effect, LogEntry, Retransmit, Store, StoredRetransmit } from './store/store.js'
import { StoreUnavailable } from './store/store.js'
import type { ConversationId } from './topics.js'
import { WriteBatch } from './write-batch.js'
import { batchMax, type Queued, WriteQueue } from './write-queue.js'

/** Told of every entry after it is durable, in log order per conversation. */
export type Dispatch = (conv: ConversationId, entry: LogEntry, effects: readonly Effect[]) => void

export interface LogWriterOptions {
  store: Store
  logger: Logger
  dispatch: Dispatch
  /** Asked when a direct conversation is loaded and when its users change, never for each message. */
  judge?: JudgeDirect
  retryMs: number
  /** Of a store that nodes share: the log of the conversation has come to `seq`, and perhaps no node was told. */
  found?: (conv: ConversationId, seq: number) => void
  /** The entry that was dispatched last of this conversation is the last one of its append. */
  ended?: (conv: ConversationId, seq: number) => void
  observe?: (outcome: 'stored' | 'duplicate' | 'refused' | 'failed', count: number) => void
  observeAppendSeconds?: (seconds: number) => void
  /** Of the first message of each batch: from `submit` to its dispatch. */
  observeDeliverySeconds?: (seconds: number) => void
  now?: () => number
}

/** A send without id is recognised again for this long. */
export const retransmitMsMax = 24 * 3_600_000
const backoffMinMs = 50
const backoffMaxMs = 1_000
/** With so many waiting the next batch is decided before the one that is written is on the disk; with fewer it may still grow. */
const aheadMin = batchMax
/** Appends under way to a store that is shared. */
const lanesMax = 4

/** What an append came to. */
type Outcome = { lost: ReadonlySet<ConversationId> } | { fault: unknown }

/** Never rejects. */
type Writing = { batch: WriteBatch; outcome: Promise<Outcome> }

const noneLost: Outcome = { lost: new Set() }

export class LogWriter {
  readonly #queue = new WriteQueue()
  /** Loops at work: one pipeline, or so many lanes. */
  #running = 0
  readonly #runningMax: number
  #closing = false
  #backoffMs = 0
  #idle: (() => void)[] = []
  /** Called when so many wait that the next batch can be decided ahead. */
  #onMany: (() => void) | undefined
  readonly #doubts = new Doubts()
  readonly #late: LateAppends | undefined
  /** Batches from the begin of their append until they are dispatched. */
  readonly #underWay = new Set<WriteBatch>()
  readonly conversations: ConversationCache
  readonly #answers: Answers
  readonly #options: LogWriterOptions
  readonly #now: () => number

  constructor(options: LogWriterOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.conversations = new ConversationCache(options.store, options.judge ?? (async () => undefined), () => this.#wake())
    this.#answers = new Answers(options)
    this.#runningMax = options.store.isShared ? lanesMax : 1
    const { store, logger, found } = options
    if (store.isShared && found !== undefined) this.#late = new LateAppends({ log: store.log, logger, found })
  }

  /** False after an append failed, until one succeeds. */
  get healthy(): boolean {
    return this.#backoffMs === 0
  }

  get waiting(): number {
    return this.#queue.length
  }

  /** `bytes`: about what the entry takes, for the bound of a batch. */
  submit(operation: Operation, bytes: number): void {
    if (this.#closing) return operation.failed('the server is shutting down')
    if (this.#queue.isFull) return operation.refused(refuse('busy', 'too many messages wait for the store; send again later'))
    this.#queue.push({ operation, sinceMs: performance.now(), bytes })
    if (this.#queue.length >= aheadMin) this.#onMany?.()
    this.#wake()
  }

  #wake(): void {
    if (this.#running < this.#runningMax && this.#queue.length > 0) this.#start()
  }

  #start(): void {
    this.#running++
    setImmediate(async () => {
      await (this.#options.store.isShared ? this.#lane() : this.#pipeline())
      this.#running--
      // What waits for another node's word goes on with it.
      if (this.#running > 0 || this.#queue.length > 0) return
      // Nothing waits, so nothing will show that the store is back: from here on only asking it can tell.
      this.#backoffMs = 0
      for (const resolve of this.#idle.splice(0)) resolve()
    })
  }

  /** Resolves when the queue is empty and the last batch answered. Further operations are failed. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#running > 0 || this.#queue.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    this.#late?.close()
  }

  // --- a store of this process alone -----------------------------------------------------------------------------------

  /** While one batch is written the next is decided and the one before answered: neither the disk nor this thread waits for the other. */
  async #pipeline(): Promise<void> {
    let writing: Writing | undefined
    while (this.#queue.length > 0 || writing !== undefined) {
      if (writing !== undefined && this.#queue.length < aheadMin) await this.#untilDoneOrMany(writing)
      const taken = this.#queue.take()
      let next: WriteBatch | undefined
      let fault: unknown
      try {
        next = taken.length > 0 ? await this.#decide(taken, writing?.batch) : undefined
      } catch (error) {
        fault = error
      }
      const written: Writing | undefined = writing
      const outcome: Outcome = (await written?.outcome) ?? noneLost
      writing = undefined
      if (this.#doubts.size > 0 && written !== undefined && written.batch.appends.size > 0) await this.#dispatchAllLate('fault' in outcome)
      if ('fault' in outcome) {
        await this.#postpone([...(written?.batch.taken ?? []), ...(next?.taken ?? taken)], outcome.fault)
        continue
      }
      const again = written === undefined ? [] : this.#withdraw(outcome.lost, written.batch, next)
      if (fault === undefined) this.#queue.putBack(again)
      if (next !== undefined) writing = this.#write(next)
      if (written !== undefined) await this.#give(written.batch)
      if (fault !== undefined) await this.#postpone([...again, ...taken], fault)
    }
  }

  #untilDoneOrMany({ outcome }: Writing): Promise<unknown> {
    const many = new Promise<void>((resolve) => (this.#onMany = resolve))
    return Promise.race([outcome, many]).finally(() => (this.#onMany = undefined))
  }

  // --- a store that is shared --------------------------------------------------------------------------------------------

  /** One batch after the other, of conversations that no other lane holds. */
  async #lane(): Promise<void> {
    for (;;) {
      const taken = this.#queue.takeFree(this.conversations.isBusy)
      if (taken.length === 0) return
      for (const { operation } of taken) this.conversations.hold(operation.conv)
      await this.#writeHeld(taken)
      for (const { operation } of taken) this.conversations.release(operation.conv)
    }
  }

  async #writeHeld(taken: readonly Queued[]): Promise<void> {
    let batch: WriteBatch | undefined
    try {
      batch = await this.#decide(taken, undefined)
      this.#queue.putBack(await this.#withdrawUnproven(batch))
    } catch (error) {
      return this.#postpone(batch?.taken ?? taken, error)
    }
    const outcome = await this.#write(batch).outcome
    if ('fault' in outcome) return this.#postpone(batch.taken, outcome.fault)
    const places = batch.plainPlacesOf(outcome.lost)
    this.#queue.putBack(this.#withdraw(outcome.lost, batch))
    // Whoever was faster has mostly told already.
    for (const { state, head } of places) this.conversations.lost(state, head)
    await this.#give(batch)
  }

  /**
   * A refusal stands only on a state that was the store's after the operation came: another node may have let its sender in before. One
   * question for all of a batch; what was decided on less is withdrawn, to be decided again on a state that is read then.
   */
  async #withdrawUnproven(batch: WriteBatch): Promise<Queued[]> {
    const unproven = new Set<ConversationId>()
    for (const { queued } of batch.refused) {
      const { conv } = queued.operation
      const state = batch.states.get(conv) as Conversation
      // Where something is written too, the append proves it.
      if (state.group !== undefined && state.provenMs < queued.sinceMs && !batch.appends.has(conv)) unproven.add(conv)
    }
    if (unproven.size === 0) return []
    const askedMs = performance.now()
    const convs = [...unproven]
    for (const [index, { head }] of (await this.#options.store.log.heads(convs)).entries()) {
      const conv = convs[index] as ConversationId
      const state = batch.states.get(conv) as Conversation
      if (state.head !== head) continue
      state.provenMs = askedMs
      unproven.delete(conv)
    }
    return this.#withdraw(unproven, batch)
  }

  // --- a batch -------------------------------------------------------------------------------------------------------------

  /** Reads what deciding needs and only the store knows, and decides. */
  async #decide(taken: readonly Queued[], before: WriteBatch | undefined): Promise<WriteBatch> {
    const { log } = this.#options.store
    const batch = new WriteBatch(taken)
    await this.#readStates(batch)
    if (this.#doubts.size > 0) await this.#dispatchLate(batch, before)
    batch.sent = await log.findSentAll(taken.map(({ operation }) => operation))
    await this.#readRetransmits(batch)
    await this.conversations.settleChanges()
    this.#queue.putBack(batch.decide(this.#now(), this.#options.logger, before))
    for (const { conv, effects } of batch.appends.values()) {
      if (effects.length > 0) this.conversations.keep(batch.states.get(conv) as Conversation)
    }
    return batch
  }

  /** States of conversations, and the entries that operations speak of. */
  async #readStates({ taken, states, targets }: WriteBatch): Promise<void> {
    const nowMs = performance.now()
    const reads = new Map<ConversationId | Operation, Promise<unknown>>()
    this.conversations.trim()
    for (const { operation } of taken) {
      const { conv, target } = operation
      if (target !== undefined) reads.set(operation, this.#readTarget(operation, target, targets))
      if (states.has(conv)) continue
      const state = this.conversations.fresh(conv, nowMs)
      if (state !== undefined) states.set(conv, state)
      else if (!reads.has(conv)) reads.set(conv, this.#readState(conv, states))
    }
    if (reads.size > 0) await Promise.all(reads.values())
  }

  async #readTarget(operation: Operation, target: number, targets: WriteBatch['targets']): Promise<void> {
    const [entry] = await this.#options.store.log.read(operation.conv, target, target, 1)
    targets.set(operation, entry)
  }

  async #readState(conv: ConversationId, states: WriteBatch['states']): Promise<void> {
    states.set(conv, await this.conversations.load(conv))
  }

  /** Where retransmissions are stored; what a later connect of the device has sent again, or left behind, is failed here. */
  async #readRetransmits(batch: WriteBatch): Promise<void> {
    const { isShared, log } = this.#options.store
    const reads: Promise<void>[] = []
    const overtaken = new Set<Queued>()
    for (const [index, queued] of batch.taken.entries()) {
      const { operation } = queued
      const { isRetry, retransmit } = operation
      if (retransmit === undefined || !(isRetry || isShared)) continue
      const read = async (): Promise<void> => {
        const last = await log.findRetransmit(retransmit.session, retransmit.packetId)
        if (last === undefined) return
        if (isShared && last.epoch > retransmit.epoch) overtaken.add(queued)
        else if (isRetry && this.#isRepeat(operation, retransmit, last)) batch.sent[index] = last.seq
      }
      reads.push(read())
    }
    if (reads.length > 0) await Promise.all(reads)
    if (overtaken.size === 0) return
    batch.leaveOut(overtaken)
    for (const { operation } of overtaken) operation.failed('the device has connected elsewhere, and has sent since')
    this.#options.observe?.('failed', overtaken.size)
  }

  #isRepeat({ conv }: Operation, { packetId, digest }: Retransmit, last: StoredRetransmit): boolean {
    return last.conv === conv && last.packetId === packetId && last.digest === digest && this.#now() - last.ts < retransmitMsMax
  }

  /** What an earlier append has written, though it failed, goes to the live sessions before anything newer. */
  async #dispatchLate({ states }: WriteBatch, before: WriteBatch | undefined): Promise<void> {
    for (const [conv, { head }] of states) {
      // What is being written now was preceded by this already.
      if (this.#doubts.has(conv) && !before?.appends.has(conv)) await this.#dispatchLateOf(conv, head)
    }
  }

  async #dispatchLateOf(conv: ConversationId, head: number): Promise<void> {
    const late = await this.#doubts.resolve(conv, head, this.#options.store.log)
    for (const { entry, effects } of late) this.#answers.dispatch(conv, entry, effects)
  }

  /**
   * The same of all conversations, for those to which nobody writes. A store of this process alone has shown, with an append that
   * succeeds, whatever earlier ones had written: so all doubts end with it.
   */
  async #dispatchAllLate(hasFailed: boolean): Promise<void> {
    const { log, isShared } = this.#options.store
    // There another writer may be at work on them; whoever opens a session asks the log order.
    if (isShared) return
    try {
      const convs = this.#doubts.conversations().filter((conv) => !this.#isWritten(conv))
      const heads = await log.heads(convs)
      for (const [index, conv] of convs.entries()) {
        await this.#dispatchLateOf(conv, (heads[index] as { head: number }).head)
        if (!hasFailed) this.#doubts.settle(conv)
      }
    } catch (error) {
      this.#options.logger.warn({ err: error }, 'what failed appends have written cannot be read now; the next append looks again')
    }
  }

  #isWritten(conv: ConversationId): boolean {
    for (const { appends } of this.#underWay) if (appends.has(conv)) return true
    return false
  }

  /** With this head the log shows entries of the conversation that were not dispatched yet; they will be. */
  isAhead(conv: ConversationId, head: number): boolean {
    for (const { appends } of this.#underWay) if (head > (appends.get(conv)?.head ?? head)) return true
    return this.#doubts.isBehind(conv, head)
  }

  #write(batch: WriteBatch): Writing {
    if (batch.appends.size === 0) return { batch, outcome: Promise.resolve(noneLost) }
    this.#underWay.add(batch)
    return { batch, outcome: this.#append(batch) }
  }

  async #give(batch: WriteBatch): Promise<void> {
    const given = this.#answers.give(batch)
    // All of it is dispatched; what is left is to read the firsts of duplicates.
    this.#underWay.delete(batch)
    await given
  }

  async #append(batch: WriteBatch): Promise<Outcome> {
    const started = performance.now()
    try {
      const lost = new Set(await this.#options.store.log.append([...batch.appends.values()]))
      this.#options.observeAppendSeconds?.((performance.now() - started) / 1000)
      if (this.#doubts.size > 0 || (this.#late?.size ?? 0) > 0) this.#settle(batch, lost)
      this.#backoffMs = 0
      return { lost }
    } catch (fault) {
      for (const { conv, head } of batch.appends.values()) this.#doubts.note(conv, head, batch.attemptsOf(conv))
      this.#underWay.delete(batch)
      return { fault }
    }
  }

  /** What earlier appends of these conversations have written is known now. */
  #settle({ appends }: WriteBatch, lost: ReadonlySet<ConversationId>): void {
    for (const conv of appends.keys()) {
      if (lost.has(conv)) continue
      this.#doubts.settle(conv)
      this.#late?.settle(conv)
    }
  }

  /** Another writer was faster: all of these conversations is to be decided anew, in its old order. */
  #withdraw(lost: ReadonlySet<ConversationId>, batch: WriteBatch, next?: WriteBatch): Queued[] {
    if (lost.size === 0) return []
    for (const conv of lost) this.conversations.forget(conv)
    return [...batch.withdraw(lost), ...(next?.withdraw(lost) ?? [])]
  }

  /** A batch failed as a whole: forget what was assumed, give up what waited too long, try the rest again after a pause. */
  async #postpone(taken: readonly Queued[], fault: unknown): Promise<void> {
    const { logger, retryMs, observe } = this.#options
    for (const { operation } of taken) this.conversations.forget(operation.conv)
    if (this.healthy)
      logger.error({ err: fault, waiting: taken.length }, 'the store does not take messages; nothing is acknowledged until it does')
    if (!(fault instanceof StoreUnavailable)) logger.error({ err: fault }, 'unexpected fault of an append')
    this.#queue.putBack(taken)
    const givenUp = this.#queue.giveUp(this.#closing ? Number.POSITIVE_INFINITY : performance.now() - retryMs)
    for (const { operation } of givenUp) operation.failed('the store cannot be written')
    if (givenUp.length > 0) this.#late?.givenUp(new Set(givenUp.map(({ operation }) => operation.conv)))
    observe?.('failed', givenUp.length)
    this.#backoffMs = Math.min(Math.max(this.#backoffMs * 2, backoffMinMs), backoffMaxMs)
    await new Promise((resolve) => setTimeout(resolve, this.#backoffMs))
  }
}
