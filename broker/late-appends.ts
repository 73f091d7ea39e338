/**
 * Appends to a store that nodes share which were given up and may be written all the same, at once or later. Nobody tells of such an entry, so for
 * a while their conversations are looked at, and where they stand is told. What their senders send again is told by whoever finds it a duplicate.
 */
import type { Logger } from './logger.js'
import type { MessageLog } from './store/store.js'
import type { ConversationId } from './topics.js'

export interface LateAppendsOptions {
  log: Pick<MessageLog, 'heads'>
  logger: Logger
  /** The log of the conversation has come to `head`, and perhaps no node knows. */
  found(conv: ConversationId, head: number): void
  /** How long after an append was given up each look is. */
  looksMs?: readonly number[]
}

const looksMsDefault = [2_000, 10_000, 30_000]
/** Conversations that wait for a look; beyond, their sessions hear of a late entry with the next one. */
const dueMax = 100_000

export class LateAppends {
  readonly #options: LateAppendsOptions
  /** Conversations, each with those that were given up with it the last time. */
  readonly #due = new Map<ConversationId, ReadonlySet<ConversationId>>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(options: LateAppendsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#due.size
  }

  givenUp(convs: ReadonlySet<ConversationId>): void {
    for (const conv of convs) if (this.#due.size < dueMax || this.#due.has(conv)) this.#due.set(conv, convs)
    const { looksMs = looksMsDefault } = this.#options
    for (const [index, ms] of looksMs.entries()) {
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        void this.#look(convs, index === looksMs.length - 1)
      }, ms).unref()
      this.#timers.add(timer)
    }
  }

  /** A later append of the conversation has succeeded: an earlier one was before it, and known, or never comes. */
  settle(conv: ConversationId): void {
    this.#due.delete(conv)
  }

  /** At those that were given up together; what was given up again since has looks of its own. */
  async #look(together: ReadonlySet<ConversationId>, isLast: boolean): Promise<void> {
    const convs = [...together].filter((conv) => this.#due.get(conv) === together)
    if (convs.length === 0) return
    if (isLast) for (const conv of convs) this.#due.delete(conv)
    try {
      const heads = await this.#options.log.heads(convs)
      for (const [index, conv] of convs.entries()) {
        const { head } = heads[index] as { head: number }
        if (head > 0) this.#options.found(conv, head)
      }
    } catch (error) {
      this.#options.logger.warn({ err: error }, 'what was given up may have been stored, and the store cannot be asked now')
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }
}
