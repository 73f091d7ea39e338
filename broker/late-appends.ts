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
}

/** How long after it was given up each look is. */
const looksMs = [2_000, 10_000, 30_000]
/** Conversations that wait for a look; beyond, their sessions hear of a late entry with the next one. */
const dueMax = 100_000

export class LateAppends {
  readonly #options: LateAppendsOptions
  /** By conversation, how often it was looked at. */
  readonly #due = new Map<ConversationId, number>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(options: LateAppendsOptions) {
    this.#options = options
  }

  givenUp(convs: Iterable<ConversationId>): void {
    for (const conv of convs) if (this.#due.size < dueMax) this.#due.set(conv, 0)
    if (this.#due.size === 0) return
    for (const ms of looksMs) {
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        void this.#look()
      }, ms).unref()
      this.#timers.add(timer)
    }
  }

  /** A later append of the conversation has succeeded: an earlier one was before it, and known, or never comes. */
  settle(conv: ConversationId): void {
    this.#due.delete(conv)
  }

  async #look(): Promise<void> {
    const convs = [...this.#due.keys()]
    if (convs.length === 0) return
    try {
      const heads = await this.#options.log.heads(convs)
      for (const [index, conv] of convs.entries()) {
        const { head } = heads[index] as { head: number }
        if (head > 0) this.#options.found(conv, head)
        const looks = (this.#due.get(conv) ?? looksMs.length) + 1
        if (looks >= looksMs.length) this.#due.delete(conv)
        else this.#due.set(conv, looks)
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
