/**
 * Asks the log about every conversation of everybody who is connected here, when something may have been missed and nobody can say what. Takes
 * some reads for each user, a few users at a time; what it finds is given to the log order. While it runs it may be asked again: then
 * it starts anew.
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
  #running: Promise<void> | undefined
  #isDue = false
  #closed = false

  constructor(options: LogCheckOptions) {
    this.#options = options
  }

  start(): void {
    this.#isDue = true
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  close(): void {
    this.#closed = true
  }

  async #run(): Promise<void> {
    while (this.#isDue && !this.#closed) {
      this.#isDue = false
      const users = [...this.#options.audience().users()].values()
      const work = async (): Promise<void> => {
        for (const user of users) {
          if (this.#isDue || this.#closed) return
          await this.#check(user)
        }
      }
      try {
        await Promise.all(Array.from({ length: usersAtOnce }, work))
      } catch (error) {
        if (this.#closed) return
        this.#options.logger.warn({ err: error }, 'conversations cannot be checked; it is tried again')
        this.#isDue = true
        await delay(retryMs, undefined, { ref: false })
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
        .some(({ formerGroups }) => (formerGroups.get(conv) ?? 0) < end)
    order.reached(conv, head, isMissed ? [user] : [])
  }
}
