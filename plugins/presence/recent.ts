/**
 * What was read of each key some moments ago, for questions that many ask at once: after a break everybody comes back, and watches the same
 * users. Bounded; the owner forgets what he hears has changed.
 */

export interface RecentOptions<Value> {
  read(key: string): Promise<Value>
  keptMs: number
  keysMax: number
}

interface Kept<Value> {
  readMs: number
  value: Promise<Value>
}

export class Recent<Value> {
  readonly #options: RecentOptions<Value>
  /** The oldest first. */
  readonly #kept = new Map<string, Kept<Value>>()

  constructor(options: RecentOptions<Value>) {
    this.#options = options
  }

  /** Read at this monotonic time or later. Rejects as the reading does, which is not kept. */
  of(key: string, sinceMs = 0): Promise<Value> {
    const { read, keptMs, keysMax } = this.#options
    const nowMs = performance.now()
    const known = this.#kept.get(key)
    if (known !== undefined && known.readMs >= Math.max(sinceMs, nowMs - keptMs)) return known.value
    const kept = { readMs: nowMs, value: read(key) }
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    kept.value.catch(() => {
      if (this.#kept.get(key) === kept) this.#kept.delete(key)
    })
    for (const [oldest, { readMs }] of this.#kept) {
      if (this.#kept.size <= keysMax && nowMs - readMs < keptMs) break
      this.#kept.delete(oldest)
    }
    return kept.value
  }

  forget(key: string): void {
    this.#kept.delete(key)
  }

  forgetAll(): void {
    this.#kept.clear()
  }
}
