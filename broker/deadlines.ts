/**
 * One clock for all connections: each is looked at in the second in which it asked for it. Costs nothing per packet and
 * no timer per connection, with 100,000s of them.
 */

export interface Watched {
  /** Second in which `check` is due; kept by the wheel. */
  dueSecond: number
  /** Called when due, with a monotonic time in ms. Gives ms until the next look, or undefined to be left alone. */
  check(nowMs: number): number | undefined
}

export class Deadlines {
  readonly #buckets = new Map<number, Set<Watched>>()
  readonly #timer: NodeJS.Timeout
  #second: number

  constructor() {
    this.#second = Math.floor(performance.now() / 1000)
    this.#timer = setInterval(() => this.#turn(), 1000)
    this.#timer.unref()
  }

  /** It is looked at then, or before: an earlier date stands, since to take it back costs more than a look too many. */
  watch(watched: Watched, afterMs: number): void {
    const second = Math.max(Math.ceil((performance.now() + afterMs) / 1000), this.#second + 1)
    if (watched.dueSecond !== 0 && watched.dueSecond <= second) return
    this.forget(watched)
    watched.dueSecond = second
    const bucket = this.#buckets.get(second)
    if (bucket === undefined) this.#buckets.set(second, new Set([watched]))
    else bucket.add(watched)
  }

  forget(watched: Watched): void {
    const bucket = this.#buckets.get(watched.dueSecond)
    if (bucket?.delete(watched) && bucket.size === 0) this.#buckets.delete(watched.dueSecond)
    watched.dueSecond = 0
  }

  #turn(): void {
    const nowMs = performance.now()
    const until = Math.floor(nowMs / 1000)
    for (; this.#second < until; this.#second++) {
      const bucket = this.#buckets.get(this.#second + 1)
      this.#buckets.delete(this.#second + 1)
      if (bucket === undefined) continue
      for (const watched of bucket) {
        watched.dueSecond = 0
        const next = watched.check(nowMs)
        if (next !== undefined) this.watch(watched, next)
      }
    }
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#buckets.clear()
  }
}
