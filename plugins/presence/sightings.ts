/**
 * When each user was last connected: kept at the end of each connection, written behind as `sightings/{user}`, never for a message. After a
 * crash it is what his stored sessions say, which may be some minutes early.
 */
import type { Logger } from '../../broker/logger.js'
import type { KeyValueStore, SessionStore } from '../../broker/store/store.js'

const writeMs = 15_000
const writesAtOnce = 100

export interface SightingsOptions {
  records: KeyValueStore
  sessions: Pick<SessionStore, 'list'>
  /** False of who is back, and of who was erased. */
  isWanted(user: string): Promise<boolean>
  logger: Logger
}

const keyOf = (user: string): string => `sightings/${user}`

export class Sightings {
  readonly #options: SightingsOptions
  /** Not written yet. */
  #due = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: SightingsOptions) {
    this.#options = options
  }

  /** The user was connected at this time, ms since 1970. */
  saw(user: string, ts: number): void {
    this.#due.set(user, Math.max(ts, this.#due.get(user) ?? 0))
    this.#timer ??= setTimeout(() => void this.flush(), writeMs).unref()
  }

  /** The latest that is known; undefined: never. */
  async of(user: string): Promise<number | undefined> {
    const { records, sessions } = this.#options
    const [kept, stored] = await Promise.all([records.get(keyOf(user)), sessions.list(user)])
    const latest = Math.max(Number(kept?.toString() ?? 0), this.#due.get(user) ?? 0, ...stored.map(({ seenTs }) => seenTs))
    return latest > 0 ? latest : undefined
  }

  /** Never rejects: what cannot be written, or not in time, is given up, and the stored sessions know better than nothing. */
  async flush(msMax = Number.POSITIVE_INFINITY): Promise<void> {
    const untilMs = performance.now() + msMax
    clearTimeout(this.#timer)
    this.#timer = undefined
    const due = [...this.#due]
    try {
      for (let at = 0; at < due.length && performance.now() < untilMs; at += writesAtOnce) {
        const batch = due.slice(at, at + writesAtOnce)
        await Promise.all(batch.map(([user, ts]) => this.#write(user, ts)))
      }
    } catch (error) {
      this.#options.logger.warn({ err: error }, 'when users were last seen cannot be written')
    }
    for (const [user, ts] of due) if (this.#due.get(user) === ts) this.#due.delete(user)
  }

  async #write(user: string, ts: number): Promise<void> {
    const { records, isWanted } = this.#options
    if (await isWanted(user)) await records.put(keyOf(user), Buffer.from(String(ts)))
  }

  async erase(user: string): Promise<void> {
    this.#due.delete(user)
    await this.#options.records.remove(keyOf(user))
  }
}
