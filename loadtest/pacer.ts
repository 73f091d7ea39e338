/**
 * The clock of an open loop: calls at a steady rate, whatever the broker does. Each call gets the time at which it was due, not
 * the time at which it was made; a latency counted from there includes every wait (no coordinated omission).
 */
import { LatencyHistogram } from './latency-histogram.js'
import { stampAfter, stampNow } from './stamp.js'

const tickMs = 1

export interface PacerOptions {
  perSecond: number
  /** Time in which the rate rises from nothing. */
  rampMs: number
  /** Part of an interval, 0…1, by which the first call is shifted, so that processes do not beat together. */
  phase: number
  fire(stamp: number): void
}

/** When call number `index` (from 0) is due, in ms from the start: the rate rises linearly in `rampMs` and is steady from then on. */
export function dueMs(index: number, perSecond: number, rampMs: number): number {
  const perMs = perSecond / 1000
  const inRamp = (perMs * rampMs) / 2
  if (index < inRamp) return Math.sqrt((2 * index * rampMs) / perMs)
  return rampMs + (index - inRamp) / perMs
}

export class Pacer {
  /** How late calls were made: the load process's own part of the latencies. */
  readonly lateness = new LatencyHistogram()
  readonly #options: PacerOptions
  #timer: NodeJS.Timeout | undefined
  #startedMs = 0
  #startStamp = 0
  #next = 0

  constructor(options: PacerOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#options.perSecond <= 0) return
    this.#startedMs = performance.now()
    this.#startStamp = stampNow()
    this.#next = this.#options.phase
    this.#timer = setTimeout(() => this.#tick(), tickMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #tick(): void {
    const { perSecond, rampMs, fire } = this.#options
    const elapsedMs = performance.now() - this.#startedMs
    for (let due = dueMs(this.#next, perSecond, rampMs); due <= elapsedMs; due = dueMs(this.#next, perSecond, rampMs)) {
      this.lateness.record((elapsedMs - due) * 1000)
      this.#next++
      fire(stampAfter(this.#startStamp, due * 1000))
    }
    this.#timer = setTimeout(() => this.#tick(), tickMs)
  }
}
