/**
 * Tells whether this process stood still a moment ago, as one does that is stopped, or whose machine is frozen: what it reads then may have
 * been sent long before, over connections whose devices have gone on elsewhere. Asked with the first that is read, before any timer has run.
 */
const tickMs = 500
/** A node that is only busy is not meant. */
const stoodMsMin = 3_000
/** For so long after it things are read that came meanwhile. */
const afterMs = 5_000

export class StallWatch {
  #tickedMs: number
  #untilMs = Number.NEGATIVE_INFINITY
  readonly #now: () => number
  readonly #timer: NodeJS.Timeout

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#tickedMs = now()
    this.#timer = setInterval(() => this.tick(), tickMs).unref()
  }

  get hasStood(): boolean {
    this.#look()
    return this.#now() < this.#untilMs
  }

  /** Called by itself twice a second. */
  tick(): void {
    this.#look()
    this.#tickedMs = this.#now()
  }

  #look(): void {
    const nowMs = this.#now()
    if (nowMs - this.#tickedMs >= stoodMsMin) this.#untilMs = nowMs + afterMs
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
