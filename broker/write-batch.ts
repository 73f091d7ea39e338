/**
 * Operations that are decided together and go into one append. Each is decided in the order in which it came, on what those before it
 * leave behind, also those of the batch before, which may still be on its way to the disk. What turns out to stand on a
 * wrong head is withdrawn with all else of its conversation, in its old order. Nothing here waits, reads or writes.
 */
import { applyEffects, type Conversation } from './conversation.js'
import { type Refusal, refuse } from './errors.js'
import type { Logger } from './logger.js'
import type { Operation, Plan } from './operation.js'
import type { ConversationAppend, Effect, LogEntry } from './store/store.js'
import { storedForm } from './stored-form.js'
import type { ConversationId } from './topics.js'
import type { Queued } from './write-queue.js'

export interface Written {
  queued: Queued
  entry: LogEntry
  effects: readonly Effect[]
  /** An earlier one of the batch with the same message id, whoever sent it and wherever. */
  namesake: Written | undefined
}

/** Of an entry in the store, or of `entry`, which is in this batch or the one before. */
export interface Duplicate {
  queued: Queued
  seq: number
  entry: LogEntry | undefined
}

export interface Refused {
  queued: Queued
  error: Refusal
}

/** What MongoDB and the journal take as one entry, with room for what is kept beside it. */
const entryBytesMax = 12 * 1024 * 1024
/** With more, the rest of the conversation waits for the next batch: all of them must fit in one document. */
const effectsMax = 10_000

/** What this sender wrote into the conversation, among those that share a message id. */
function entryOf(written: Written | undefined, conv: ConversationId, from: string): LogEntry | undefined {
  for (let one = written; one !== undefined; one = one.namesake) {
    if (one.entry.from === from && one.queued.operation.conv === conv) return one.entry
  }
  return undefined
}

const wireKeyOf = ({ retransmit }: Operation): string | undefined =>
  retransmit === undefined ? undefined : `${retransmit.session} ${retransmit.packetId} ${retransmit.digest}`

export class WriteBatch {
  readonly appends = new Map<ConversationId, ConversationAppend>()
  written: Written[] = []
  duplicates: Duplicate[] = []
  refused: Refused[] = []
  /** By conversation; the batch keeps them, whatever becomes of the cache. */
  readonly states = new Map<ConversationId, Conversation>()
  /** What operations speak of. */
  readonly targets = new Map<Operation, LogEntry | undefined>()
  /** Per operation: the seq under which it was stored before. */
  sent: (number | undefined)[] = []
  taken: readonly Queued[]
  readonly #byId = new Map<string, Written>()
  readonly #byWire = new Map<string, LogEntry>()
  /** No more of these. */
  #full: Set<ConversationId> | undefined
  /** Withdrawn; nobody repeats what was never written. */
  #lost: ReadonlySet<ConversationId> | undefined

  constructor(taken: readonly Queued[]) {
    this.taken = taken
  }

  /** Takes out what is not to be decided. */
  leaveOut(some: ReadonlySet<Queued>): void {
    this.sent = this.sent.filter((_, index) => !some.has(this.taken[index] as Queued))
    this.taken = this.taken.filter((queued) => !some.has(queued))
  }

  /** Decides all, with what was read before; returns those for which there is no room. `before`: the batch that was being written meanwhile. */
  decide(now: number, logger: Logger, before: WriteBatch | undefined): Queued[] {
    const { taken, states, sent } = this
    const deferred: Queued[] = []
    for (let i = 0; i < taken.length; i++) {
      const queued = taken[i] as Queued
      const { operation } = queued
      const { conv, from, id } = operation
      if (this.#full?.has(conv)) {
        deferred.push(queued)
        continue
      }
      const earlier = sent[i]
      const wireKey = wireKeyOf(operation)
      const twin = this.#twinOf(operation, wireKey) ?? (before === undefined ? undefined : before.#twinOf(operation, wireKey))
      if (earlier !== undefined || twin !== undefined) {
        this.duplicates.push({ queued, seq: twin?.seq ?? (earlier as number), entry: twin })
        continue
      }
      const state = states.get(conv) as Conversation
      const seq = state.head + 1
      const plan = planOf(operation, state, this.targets.get(operation), logger)
      if (plan instanceof Error) {
        this.refused.push({ queued, error: plan })
        continue
      }
      const ts = Math.max(now, state.lastTs)
      const payload = storedForm(seq, ts, plan.head, plan.tail)
      const entry: LogEntry = { seq, ts, from, device: operation.device, id, payload }
      this.#add(state, operation, entry, plan.effects)
      const written = { queued, entry, effects: plan.effects, namesake: this.#byId.get(id) }
      this.written.push(written)
      this.#byId.set(id, written)
      if (wireKey !== undefined) this.#byWire.set(wireKey, entry)
    }
    if (deferred.length > 0) this.taken = without(taken, deferred)
    return deferred
  }

  /** The entry that the operation repeats. A retransmission may stand beside what it repeats, when the store was slow. */
  #twinOf({ conv, from, id, isRetry }: Operation, wireKey: string | undefined): LogEntry | undefined {
    if (this.#lost?.has(conv)) return undefined
    return entryOf(this.#byId.get(id), conv, from) ?? (isRetry && wireKey !== undefined ? this.#byWire.get(wireKey) : undefined)
  }

  #add(state: Conversation, operation: Operation, entry: LogEntry, effects: readonly Effect[]): void {
    let append = this.appends.get(state.conv)
    if (append === undefined) {
      append = { conv: state.conv, head: state.head, entries: [], effects: [], retransmits: [] }
      this.appends.set(state.conv, append)
    }
    append.entries.push(entry)
    if (effects.length > 0) {
      append.effects.push(...effects)
      applyEffects(state, effects)
      if (append.effects.length > effectsMax) {
        this.#full ??= new Set()
        this.#full.add(state.conv)
      }
    }
    if (operation.retransmit !== undefined) append.retransmits.push({ ...operation.retransmit, seq: entry.seq })
    state.head = entry.seq
    state.lastTs = entry.ts
  }

  /** Takes out all that was decided about these conversations, refusals and duplicates included; in the order in which it came. */
  withdraw(lost: ReadonlySet<ConversationId>): Queued[] {
    const isLost = ({ operation }: Queued): boolean => lost.has(operation.conv)
    const stays = ({ queued }: { queued: Queued }): boolean => !isLost(queued)
    this.#lost = this.#lost === undefined ? lost : new Set([...this.#lost, ...lost])
    for (const conv of lost) this.appends.delete(conv)
    this.written = this.written.filter(stays)
    this.duplicates = this.duplicates.filter(stays)
    this.refused = this.refused.filter(stays)
    const withdrawn = this.taken.filter(isLost)
    this.taken = this.taken.filter((queued) => !isLost(queued))
    return withdrawn
  }

  /** Where the appends of these conversations stood that only go on; to be asked before they are withdrawn. */
  plainPlacesOf(convs: Iterable<ConversationId>): { state: Conversation; head: number }[] {
    return [...convs].flatMap((conv) => {
      const [state, append] = [this.states.get(conv), this.appends.get(conv)]
      return state === undefined || append === undefined || append.effects.length > 0 ? [] : [{ state, head: append.head }]
    })
  }

  /** What an append wrote, or would have. */
  attemptsOf(conv: ConversationId): Written[] {
    return this.written.filter(({ queued }) => queued.operation.conv === conv)
  }
}

function without(taken: readonly Queued[], deferred: readonly Queued[]): Queued[] {
  const left = new Set(deferred)
  return taken.filter((queued) => !left.has(queued))
}

function planOf(operation: Operation, state: Conversation, target: LogEntry | undefined, logger: Logger): Plan | Refusal {
  try {
    const plan = operation.plan(state, state.head + 1, target)
    if (plan instanceof Error || plan.tail.length <= entryBytesMax) return plan
    return refuse('too_large', `the message takes ${plan.tail.length} bytes as it is stored; the log takes ${entryBytesMax}`)
  } catch (error) {
    logger.error({ err: error, conv: operation.conv }, 'deciding on an operation failed')
    return refuse('internal', 'the message could not be handled; the server has logged why')
  }
}
