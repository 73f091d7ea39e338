/**
 * How often something may happen for each of many keys: a burst at once, then so many a second. Synchronous and bounded in memory; a
 * key that was not used for a while costs nothing.
 */
import type { RateLimit } from './setting-kinds.js'

interface Bucket {
  tokens: number
  filledMs: number
}

/** Never runs backwards. */
export type Clock = () => number

/** So that who waits exactly as long as told is let through. */
const roundingError = 1e-6
const bucketsMaxDefault = 100_000

const monotonicMs: Clock = () => performance.now()

export class RateBuckets {
  readonly #burst: number
  readonly #perMs: number
  readonly #refillMs: number
  readonly #nowMs: Clock
  readonly #bucketsMax: number
  // A bucket that was not used for `#refillMs` is full, as a new one is, so dropping the older generation loses nothing,
  // except past `#bucketsMax`, where memory is worth more than an exact count.
  #recent = new Map<string, Bucket>()
  #older = new Map<string, Bucket>()
  #turnedMs: number

  /** At most `bucketsMax` keys are remembered twice over. */
  constructor({ perSecond, burst }: RateLimit, nowMs = monotonicMs, bucketsMax = bucketsMaxDefault) {
    this.#burst = burst
    this.#perMs = perSecond / 1000
    this.#refillMs = burst / this.#perMs
    this.#nowMs = nowMs
    this.#bucketsMax = bucketsMax
    this.#turnedMs = nowMs()
  }

  /** Takes one token: 0, or the ms until there is one. */
  take(key: string): number {
    const bucket = this.#filled(key)
    const waitMs = this.#waitMs(bucket)
    if (waitMs === 0) bucket.tokens = Math.max(0, bucket.tokens - 1)
    return waitMs
  }

  /** The same, and takes nothing. */
  waitMs(key: string): number {
    return this.#waitMs(this.#filled(key))
  }

  #waitMs({ tokens }: Bucket): number {
    return tokens < 1 - roundingError ? Math.max(1, Math.ceil((1 - tokens) / this.#perMs)) : 0
  }

  #filled(key: string): Bucket {
    const now = this.#nowMs()
    if (now - this.#turnedMs >= this.#refillMs || this.#recent.size >= this.#bucketsMax) {
      this.#older = this.#recent
      this.#recent = new Map()
      this.#turnedMs = now
    }
    let bucket = this.#recent.get(key)
    if (bucket === undefined) {
      bucket = this.#older.get(key) ?? { tokens: this.#burst, filledMs: now }
      this.#recent.set(key, bucket)
    }
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (now - bucket.filledMs) * this.#perMs)
    bucket.filledMs = now
    return bucket
  }
}

/** Undefined where there is no limit. */
export const bucketsOf = (limit: RateLimit | undefined, nowMs?: Clock, bucketsMax?: number): RateBuckets | undefined =>
  limit === undefined ? undefined : new RateBuckets(limit, nowMs, bucketsMax)
