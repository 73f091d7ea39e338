/**
 * Asks the log about every conversation of everybody who is connected here, when something may have been missed and nobody can say what. Takes
 * some reads for each user, a few users at a time; what it finds is given to the log order. Asked again while it runs it asks again about
 * those whom it has been through, when it has been through all: however often it is asked, nobody's turn is put off.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../logger.js'
import type { ConversationRow, Store } from '../store/store.js'
import type { Audience, LogOrder } from './log-order.js'

export interface LogCheckOptions {
  store: Store
  logger: Logger
  order: LogOrder
  audience: () => Audience
}

const usersAtOnce = 4
const retryMs = 500

export class LogCheck {
  readonly #options: LogCheckOptions
  /** Whose turn is still to come, in order. */
  readonly #due = new Set<string>()
  #running: Promise<void> | undefined
  #closed = false

  constructor(options: LogCheckOptions) {
    this.#options = options
  }

  start(): void {
    for (const user of this.#options.audience().users()) this.#due.add(user)
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  close(): void {
    this.#closed = true
  }

  async #run(): Promise<void> {
    while (this.#due.size > 0 && !this.#closed) {
      const results = await Promise.allSettled(Array.from({ length: usersAtOnce }, () => this.#work()))
      const failure = results.find((result) => result.status === 'rejected')
      if (failure === undefined || this.#closed) continue
      this.#options.logger.warn({ err: failure.reason }, 'conversations cannot be checked; it is tried again')
      await delay(retryMs, undefined, { ref: false })
    }
  }

  async #work(): Promise<void> {
    for (const user of this.#due) {
      if (this.#closed) return
      // Before it is read: who asks from here on is not answered by what is read now.
      this.#due.delete(user)
      try {
        await this.#check(user)
      } catch (error) {
        this.#due.add(user)
        throw error
      }
    }
  }

  async #check(user: string): Promise<void> {
    const { directory, log } = this.#options.store
    const rows = await directory.conversationsOf(user)
    const heads = await log.heads(rows.map(({ conv }) => conv))
    rows.forEach((row, index) => this.#compare(user, row, heads[index]?.head ?? 0))
  }

  #compare(user: string, { conv, spans }: ConversationRow, head: number): void {
    const { audience, order } = this.#options
    const last = spans?.at(-1)
    const end = last?.to ?? head
    const isMissed =
      last !== undefined &&
      audience()
        .sessionsOf(user)
        .some(({ formerGroups }) => (formerGroups?.get(conv) ?? 0) < end)
    order.reached(conv, head, isMissed ? [user] : [])
  }
}
