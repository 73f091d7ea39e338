/** Running totals that the clients of a load process share. Windows are differences of two readings. */
import { LatencyHistogram } from './latency-histogram.js'
import { elapsedMicros, isSince, stampNow } from './stamp.js'

/** From then on the mark lies behind every message; well below the 500 s within which stamps can be compared. */
const markedMs = 300_000

export class Tally {
  confirmed = 0
  delivered = 0
  /** From send to delivery, of all messages; in an open loop from the scheduled time. */
  readonly latency = new LatencyHistogram()
  /** Of those that were sent, or scheduled, since the mark, whenever they arrive: nothing slow is left out. */
  readonly sinceMark = new LatencyHistogram()
  #mark: number | 'passed' | undefined

  /** Begins the measured window. */
  mark(): void {
    this.#mark = stampNow()
    setTimeout(() => {
      this.#mark = 'passed'
    }, markedMs).unref()
  }

  /** `waited` is a message whose receiver was away when it was sent: it counts, but its age says nothing about the broker. */
  deliver(sentAt: number, kind: 'live' | 'waited'): void {
    this.delivered++
    if (kind === 'waited') return
    const micros = elapsedMicros(sentAt, stampNow())
    this.latency.record(micros)
    if (this.#mark === undefined) return
    if (this.#mark === 'passed' || isSince(this.#mark, sentAt)) this.sinceMark.record(micros)
  }
}
