/**
 * With PARLEY_RETENTION_DAYS: takes the content of older messages away, slowly and in the background. How far each conversation is done is
 * kept, so that a sweep reads little of what was swept before. Of several nodes one sweeps at a time; two at once would only do the same.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from './logger.js'
import type { PluginHost } from './plugin-host.js'
import type { LogEntry, Store } from './store/store.js'
import { sweep } from './sweep.js'
import type { ConversationId } from './topics.js'

export interface RetentionOptions {
  store: Store
  logger: Logger
  plugins: PluginHost
  /** 0: everything is kept. */
  days: number
  /** Its name among those that share the store. */
  node: string
  /** From the end of a sweep to the next. */
  everyMs?: number
  now?: () => number
}

const dayMs = 86_400_000
const everyMsDefault = 3_600_000
const positionPrefix = 'retentions/'
const leaseKey = 'leases/retention'
const leaseMs = 10 * 60_000

interface Lease {
  node: string
  untilTs: number
}

export class Retention {
  readonly #options: RetentionOptions
  readonly #now: () => number
  readonly #stopping = new AbortController()
  #sweeping: Promise<void> = Promise.resolve()

  constructor(options: RetentionOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  start(): void {
    if (this.#options.days > 0) this.#sweeping = this.#forever()
  }

  /** Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#stopping.abort()
    await this.#sweeping
  }

  async #forever(): Promise<void> {
    const { logger, everyMs = everyMsDefault } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        const erased = await this.#sweep()
        if (erased > 0) logger.info({ erased }, 'the content of old messages was erased')
      } catch (error) {
        if (!signal.aborted) logger.error({ err: error }, 'old messages could not be erased; it is tried again')
      }
      await delay(everyMs, undefined, { signal, ref: false }).catch(ignore)
    }
  }

  async #sweep(): Promise<number> {
    const { store, days } = this.#options
    const endTs = this.#now() - days * dayMs
    let erased = 0
    let leasedTs = 0
    for await (const conv of store.log.conversations()) {
      this.#stopping.signal.throwIfAborted()
      if (this.#now() > leasedTs - leaseMs / 2) {
        if (!(await this.#lease())) return erased
        leasedTs = this.#now() + leaseMs
      }
      erased += await this.#sweepConversation(conv, endTs)
    }
    if (erased > 0) await store.log.scrub()
    return erased
  }

  async #sweepConversation(conv: ConversationId, endTs: number): Promise<number> {
    const { store, plugins } = this.#options
    const { log, records } = store
    const key = positionPrefix + conv
    const from = Number((await records.get(key))?.toString() ?? 0) + 1
    const to = await log.head(conv)
    const judge = ({ ts }: LogEntry) => (ts < endTs ? 'erase' : 'end')
    const { next, erased } = await sweep({ log, plugins, conv, from, to, judge, signal: this.#stopping.signal })
    if (next > from) await records.put(key, Buffer.from(String(next - 1)))
    return erased
  }

  async #lease(): Promise<boolean> {
    const { store, node } = this.#options
    const found = await store.records.get(leaseKey)
    const { node: holder, untilTs } = found === undefined ? { node, untilTs: 0 } : (JSON.parse(found.toString()) as Lease)
    if (holder !== node && untilTs > this.#now()) return false
    await store.records.put(leaseKey, Buffer.from(JSON.stringify({ node, untilTs: this.#now() + leaseMs } satisfies Lease)))
    return true
  }
}

const ignore = (): void => undefined
