/**
 * Keeps when each stored session was last seen: at its connect, at its disconnect, and every few minutes in between. Written behind and for
 * many at once, never for a message; after a crash it may be some minutes old.
 */
import type { Logger } from '../../broker/logger.js'
import type { Caller } from '../../broker/plugin.js'
import type { SessionStore } from '../../broker/store/store.js'

const writeMs = 5_000
const everyMs = 10 * 60_000
const writesAtOnce = 500

export interface LastSeenOptions {
  sessions: Pick<SessionStore, 'touch'>
  logger: Logger
  now?: () => number
}

export class LastSeen {
  readonly #options: LastSeenOptions
  /** Bounded by the open connections. */
  readonly #connected = new Map<string, Caller>()
  #due = new Map<string, Caller>()
  #timer: NodeJS.Timeout | undefined
  #round: NodeJS.Timeout | undefined

  constructor(options: LastSeenOptions) {
    this.#options = options
  }

  start(): void {
    this.#round = setInterval(() => {
      for (const caller of this.#connected.values()) this.#note(caller)
    }, everyMs).unref()
  }

  /** Of a session that is stored. */
  connected(caller: Caller): void {
    this.#connected.set(keyOf(caller), caller)
    this.#note(caller)
  }

  disconnected(caller: Caller): void {
    if (this.#connected.delete(keyOf(caller))) this.#note(caller)
  }

  #note(caller: Caller): void {
    this.#due.set(keyOf(caller), caller)
    this.#timer ??= setTimeout(() => void this.flush(), writeMs).unref()
  }

  /** Never rejects: what cannot be written now is seen again. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const due = [...this.#due.values()]
    this.#due = new Map()
    const seenTs = (this.#options.now ?? Date.now)()
    try {
      for (let at = 0; at < due.length; at += writesAtOnce) await this.#options.sessions.touch(due.slice(at, at + writesAtOnce), seenTs)
    } catch (error) {
      this.#options.logger.warn({ err: error }, 'when sessions were last seen cannot be written')
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#round)
    await this.flush()
  }
}

const keyOf = ({ user, device }: Caller): string => `${user}/${device}`
