/**
 * The one way into the log. Operations of all clients queue here; a batch takes what has collected, decides each in
 * order with the state at the head, commits all in one append, then answers and dispatches in log order.
 * Guarantees: an operation is answered after its entry is durable, or refused with nothing written; order per sender and
 * per conversation is the order of `submit`; the same (conversation, sender, id) is stored once; a store that fails
 * is tried again for `retryMs`, then the operations waiting are failed, unacknowledged.
 */

import { applyEffects, type Conversation, ConversationCache, type JudgeDirect } from './conversation.js'
import { Doubts } from './doubts.js'
import { type Refusal, refuse } from './errors.js'
import type { Logger } from './logger.js'
import type { ConversationAppend, Effect, LogEntry, Retransmit, Store } from './store/store.js'
import { StoreUnavailable } from './store/store.js'
import { storedForm, tailOf } from './stored-form.js'
import type { ConversationId } from './topics.js'
import { type Queued, WriteQueue } from './write-queue.js'

/** What one operation writes. */
export interface Plan {
  /** The stored form behind `"seq":…,"ts":…,`, up to its closing brace, as UTF-8. */
  tail: Buffer
  effects: readonly Effect[]
}

/** A request to append one entry. Exactly one of the four answers is called, once. */
export interface Operation {
  readonly conv: ConversationId
  readonly from: string
  readonly device: string
  /** Message id; the same (conv, from, id) is stored once. */
  readonly id: string
  /** What an equal operation would write, to tell a resend from a conflict; undefined: not compared. */
  readonly content: Buffer | undefined
  /** Set for a send without an id of its own. */
  readonly retransmit: Retransmit | undefined
  /** It may be the MQTT retransmission (DUP) of an earlier send without id. */
  readonly isRetry: boolean
  /** Seq of an earlier entry that `plan` must see. */
  readonly target: number | undefined
  /** Decides, synchronously, at the head; `seq` is what the entry will have. Called again when the append must be repeated. */
  plan(state: Conversation, seq: number, target: LogEntry | undefined): Plan | Refusal
  stored(entry: LogEntry): void
  /** Already stored as `entry`; the writer has found the contents equal. */
  duplicate(entry: LogEntry): void
  refused(error: Refusal): void
  /** Not written, as far as is known; the client may send it again. */
  failed(why: string): void
}

/** Told of every entry after it is durable, in log order per conversation. */
export type Dispatch = (conv: ConversationId, entry: LogEntry, effects: readonly Effect[]) => void

export interface LogWriterOptions {
  store: Store
  logger: Logger
  dispatch: Dispatch
  /** Asked when a direct conversation is loaded and when its users change, never for each message. */
  judge?: JudgeDirect
  retryMs: number
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

const ignore = (): void => undefined

interface Written {
  queued: Queued
  entry: LogEntry
  effects: readonly Effect[]
  /** An earlier one of the batch with the same message id, whoever sent it and wherever. */
  namesake: Written | undefined
}

interface Batch {
  appends: Map<ConversationId, ConversationAppend>
  written: Written[]
  /** Found in the store or earlier in this batch. */
  duplicates: { queued: Queued; seq: number; entry: LogEntry | undefined }[]
  refused: { operation: Operation; error: Refusal }[]
  targets: Map<Operation, LogEntry | undefined>
  /** States that the cache did not have; it keeps only those of what exists. */
  loaded: Map<ConversationId, Conversation>
  /** Per operation: the seq under which it was stored before. */
  sent: (number | undefined)[]
}

/** What this sender wrote into the conversation, among those that share a message id. */
function entryOf(written: Written | undefined, conv: ConversationId, from: string): LogEntry | undefined {
  for (let one = written; one !== undefined; one = one.namesake) {
    if (one.entry.from === from && one.queued.operation.conv === conv) return one.entry
  }
  return undefined
}

export class LogWriter {
  readonly #queue = new WriteQueue()
  #running = false
  #closing = false
  #backoffMs = 0
  #idle: (() => void)[] = []
  readonly #doubts = new Doubts()
  readonly conversations: ConversationCache
  readonly #options: LogWriterOptions
  readonly #now: () => number

  constructor(options: LogWriterOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.conversations = new ConversationCache(options.store, options.judge ?? (async () => undefined))
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
    if (!this.#running) {
      this.#running = true
      setImmediate(() => this.#loop())
    }
  }

  /** Resolves when the queue is empty and the last batch answered. Further operations are failed. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** While one batch is written the one before is answered, so that neither the disk nor this thread waits for the other. */
  async #loop(): Promise<void> {
    let written: Batch | undefined
    while (this.#queue.length > 0 || written !== undefined) {
      const answering = written
      written = undefined
      if (this.#queue.length === 0) {
        if (answering !== undefined) await this.#answer(answering)
        continue
      }
      const taken = this.#queue.take()
      try {
        written = await this.#commit(taken, answering)
        this.#backoffMs = 0
      } catch (error) {
        await this.#postpone(taken, error)
      }
    }
    // Nothing waits, so nothing will show that the store is back: from here on only asking it can tell.
    this.#backoffMs = 0
    this.#running = false
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** The batch failed as a whole: forget what was assumed, give up what waited too long, try the rest again after a pause. */
  async #postpone(taken: Queued[], error: unknown): Promise<void> {
    const { logger, retryMs, observe } = this.#options
    for (const { operation } of taken) this.conversations.drop(operation.conv)
    if (this.healthy)
      logger.error({ err: error, waiting: taken.length }, 'the store does not take messages; nothing is acknowledged until it does')
    if (!(error instanceof StoreUnavailable)) logger.error({ err: error }, 'unexpected fault of an append')
    this.#queue.putBack(taken)
    const givenUp = this.#queue.giveUp(this.#closing ? Number.POSITIVE_INFINITY : performance.now() - retryMs)
    for (const { operation } of givenUp) operation.failed('the store cannot be written')
    observe?.('failed', givenUp.length)
    this.#backoffMs = Math.min(Math.max(this.#backoffMs * 2, backoffMinMs), backoffMaxMs)
    await new Promise((resolve) => setTimeout(resolve, this.#backoffMs))
  }

  /** Writes a batch, and answers the one before meanwhile; the batch, to be answered next. */
  async #commit(taken: Queued[], before: Batch | undefined): Promise<Batch> {
    const started = performance.now()
    let appending: Promise<ConversationId[]> | undefined
    let batch: Batch
    try {
      batch = await this.#prepare(taken)
      this.#sequence(taken, batch)
      if (batch.appends.size > 0) appending = this.#append(batch, started)
      appending?.catch(ignore) // Handled below, after the answers.
    } finally {
      if (before !== undefined) await this.#answer(before)
    }
    const conflicts = (await appending) ?? []
    if (conflicts.length > 0) this.#requeueLost(batch, new Set(conflicts))
    return batch
  }

  async #append({ appends, written }: Batch, started: number): Promise<ConversationId[]> {
    try {
      const conflicts = await this.#options.store.log.append([...appends.values()])
      this.#options.observeAppendSeconds?.((performance.now() - started) / 1000)
      for (const conv of appends.keys()) if (!conflicts.includes(conv)) this.#doubts.settle(conv)
      return conflicts
    } catch (error) {
      for (const { conv, entries } of appends.values()) {
        const head = (entries[0] as LogEntry).seq - 1
        const attempts = written.filter(({ queued }) => queued.operation.conv === conv)
        this.#doubts.note(conv, head, attempts)
      }
      throw error
    }
  }

  /** What an earlier append has written, though it failed, goes to the live sessions before anything newer. */
  async #dispatchLate(taken: readonly Queued[], batch: Batch): Promise<void> {
    for (const conv of new Set(taken.map(({ operation }) => operation.conv))) {
      if (!this.#doubts.has(conv)) continue
      const { head } = this.#stateOf(conv, batch)
      const late = await this.#doubts.resolve(conv, head, this.#options.store.log)
      for (const { entry, effects } of late) this.#dispatch(conv, entry, effects)
    }
  }

  /** Everything that deciding needs and only the store knows: states of conversations, earlier sends, targets. */
  async #prepare(taken: Queued[]): Promise<Batch> {
    const { log } = this.#options.store
    const batch: Batch = { appends: new Map(), written: [], duplicates: [], refused: [], targets: new Map(), loaded: new Map(), sent: [] }
    this.conversations.trim()
    const loads = new Map<ConversationId, Promise<Conversation>>()
    const nowMs = performance.now()
    for (const { operation } of taken) {
      const { conv, target } = operation
      const load = loads.has(conv) ? undefined : this.conversations.freshen(conv, nowMs)
      if (load !== undefined) loads.set(conv, load)
      if (target !== undefined) batch.targets.set(operation, (await log.read(conv, target, target, 1))[0])
    }
    for (const [conv, load] of loads) batch.loaded.set(conv, await load)
    if (this.#doubts.size > 0) await this.#dispatchLate(taken, batch)
    batch.sent = await log.findSentAll(taken.map(({ operation }) => operation))
    for (let i = 0; i < taken.length; i++) {
      const { conv, isRetry, retransmit } = (taken[i] as Queued).operation
      if (!isRetry || retransmit === undefined) continue
      const earlier = await log.findRetransmit(retransmit)
      if (earlier?.conv === conv && this.#now() - earlier.ts < retransmitMsMax) batch.sent[i] = earlier.seq
    }
    await this.conversations.settleChanges()
    return batch
  }

  #stateOf(conv: ConversationId, batch: Batch): Conversation {
    return this.conversations.peek(conv) ?? (batch.loaded.get(conv) as Conversation)
  }

  #sequence(taken: Queued[], batch: Batch): void {
    const now = this.#now()
    const byId = new Map<string, Written>()
    const byWire = new Map<string, LogEntry>()
    for (let i = 0; i < taken.length; i++) {
      const queued = taken[i] as Queued
      const { operation } = queued
      const { conv, from, id, isRetry, retransmit } = operation
      const earlier = batch.sent[i]
      const namesake = byId.get(id)
      // A retransmission may stand in the same batch as what it repeats, when the store was slow.
      const wireKey = retransmit === undefined ? undefined : `${retransmit.session} ${retransmit.packetId} ${retransmit.digest}`
      const twin = entryOf(namesake, conv, from) ?? (isRetry && wireKey !== undefined ? byWire.get(wireKey) : undefined)
      if (earlier !== undefined || twin !== undefined) {
        batch.duplicates.push({ queued, seq: twin?.seq ?? (earlier as number), entry: twin })
        continue
      }
      const state = this.#stateOf(conv, batch)
      const seq = state.head + 1
      const plan = this.#plan(operation, state, seq, batch.targets.get(operation))
      if (plan instanceof Error) {
        batch.refused.push({ operation, error: plan })
        continue
      }
      const ts = Math.max(now, state.lastTs)
      const payload = storedForm(seq, ts, plan.tail)
      const entry: LogEntry = { seq, ts, from, device: operation.device, id, payload }
      this.#add(batch, state, operation, entry, plan.effects)
      const written = { queued, entry, effects: plan.effects, namesake }
      batch.written.push(written)
      byId.set(id, written)
      if (wireKey !== undefined) byWire.set(wireKey, entry)
    }
  }

  #plan(operation: Operation, state: Conversation, seq: number, target: LogEntry | undefined): Plan | Refusal {
    try {
      return operation.plan(state, seq, target)
    } catch (error) {
      this.#options.logger.error({ err: error, conv: operation.conv }, 'deciding on an operation failed')
      return refuse('internal', 'the message could not be handled; the server has logged why')
    }
  }

  #add(batch: Batch, state: Conversation, operation: Operation, entry: LogEntry, effects: readonly Effect[]): void {
    let append = batch.appends.get(state.conv)
    if (append === undefined) {
      append = { conv: state.conv, head: state.head, entries: [], effects: [], retransmits: [] }
      batch.appends.set(state.conv, append)
    }
    append.entries.push(entry)
    if (effects.length > 0) {
      append.effects.push(...effects)
      applyEffects(state, effects)
      this.conversations.keep(state)
    }
    if (operation.retransmit !== undefined) append.retransmits.push({ ...operation.retransmit, seq: entry.seq })
    state.head = entry.seq
    state.lastTs = entry.ts
  }

  /** Another writer was faster: these read the log anew and go first, in their old order. */
  #requeueLost(batch: Batch, lost: Set<ConversationId>): void {
    for (const conv of lost) this.conversations.drop(conv)
    const again: Queued[] = []
    batch.written = batch.written.filter((written) => {
      if (!lost.has(written.queued.operation.conv)) return true
      again.push(written.queued)
      return false
    })
    batch.duplicates = batch.duplicates.filter((duplicate) => {
      if (duplicate.entry === undefined || !lost.has(duplicate.queued.operation.conv)) return true
      again.push(duplicate.queued)
      return false
    })
    this.#queue.putBack(again)
  }

  async #answer(batch: Batch): Promise<void> {
    const { observe, observeDeliverySeconds } = this.#options
    this.#answerWritten(batch)
    const [first] = batch.written
    if (first !== undefined) observeDeliverySeconds?.((performance.now() - first.queued.sinceMs) / 1000)
    await this.#answerDuplicates(batch)
    observe?.('stored', batch.written.length)
    observe?.('refused', batch.refused.length)
  }

  #answerWritten(batch: Batch): void {
    const { logger } = this.#options
    for (const { queued, entry, effects } of batch.written) {
      const { operation } = queued
      try {
        operation.stored(entry)
      } catch (error) {
        logger.error({ err: error, conv: operation.conv, seq: entry.seq }, 'a stored message could not be acknowledged')
      }
      this.#dispatch(operation.conv, entry, effects)
    }
    for (const { operation, error } of batch.refused) {
      try {
        operation.refused(error)
      } catch (fault) {
        logger.error({ err: fault, conv: operation.conv }, 'a refusal could not be answered')
      }
    }
  }

  #dispatch(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    try {
      this.#options.dispatch(conv, entry, effects)
    } catch (error) {
      this.#options.logger.error({ err: error, conv, seq: entry.seq }, 'a stored message could not be dispatched')
    }
  }

  async #answerDuplicates(batch: Batch): Promise<void> {
    const { store, observe, logger } = this.#options
    for (const { queued, seq, entry } of batch.duplicates) {
      const { operation } = queued
      try {
        const first = entry ?? (await store.log.read(operation.conv, seq, seq, 1))[0]
        if (first === undefined) throw new Error(`the index names ${operation.conv} ${seq}, which the log does not have`)
        this.#judgeDuplicate(operation, first)
      } catch (error) {
        logger.error({ err: error }, 'the first of a duplicate cannot be read')
        operation.failed('the store cannot be read')
      }
    }
    observe?.('duplicate', batch.duplicates.length)
  }

  #judgeDuplicate(operation: Operation, first: LogEntry): void {
    if (operation.content !== undefined && !tailOf(first.payload).equals(operation.content)) {
      return operation.refused(
        refuse('conflict', `the id ${JSON.stringify(operation.id)} is already used for another message, seq ${first.seq}`),
      )
    }
    operation.duplicate(first)
  }
}
