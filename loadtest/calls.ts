/** What users of `mixed` look up, by kind: history as it is and folded, what they missed, the conversation list, who has read. */

import type { HistogramSnapshot } from './latency-histogram.js'
import { LatencyHistogram } from './latency-histogram.js'
import { callMethod, faultOfHistory } from './method-call.js'
import type { Participant } from './participant.js'
import type { Random } from './scenarios/random.js'

export const callKinds = ['history', 'folded', 'sync', 'conversations', 'receipts'] as const
export type CallKind = (typeof callKinds)[number]

const historyLimit = 50
const syncLimit = 100
const conversationsLimit = 20
/** Up to which share of the calls each kind comes. */
const shares: readonly (readonly [CallKind, upTo: number])[] = [
  ['history', 0.3],
  ['folded', 0.6],
  ['sync', 0.75],
  ['receipts', 0.85],
  ['conversations', 1],
]

export interface Caller {
  participant: Participant
  /** The last seq heard of each conversation: cursors of `sync`. */
  seen: ReadonlyMap<string, number>
}

export class Calls {
  readonly #latencies = new Map<CallKind, LatencyHistogram>()
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  record(kind: CallKind, micros: number): void {
    const latency = this.#latencies.get(kind) ?? new LatencyHistogram()
    this.#latencies.set(kind, latency)
    latency.record(micros)
  }

  snapshots(): Partial<Record<CallKind, HistogramSnapshot>> {
    return Object.fromEntries([...this.#latencies].map(([kind, latency]) => [kind, latency.snapshot()]))
  }

  /** One call of some kind; throws when it is refused, or the answer cannot be right. */
  async make({ participant: { client, plan }, seen }: Caller): Promise<CallKind> {
    const dice = this.#random()
    const kind = shares.find(([, upTo]) => dice < upTo)?.[0] ?? 'conversations'
    const { topic } = plan.sends[Math.floor(this.#random() * plan.sends.length)] ?? { topic: '' }
    const conv = topic.slice(0, topic.lastIndexOf('/'))
    if (kind === 'sync') await callMethod(client, 'sync', { cursors: Object.fromEntries(seen), limit: syncLimit })
    else if (kind === 'conversations') await callMethod(client, 'conversations', { limit: conversationsLimit })
    // Who has said nothing to a peer, and heard nothing, has no conversation with him.
    else if (kind === 'receipts') await callMethod(client, 'receipts', { conv: seen.has(conv) ? conv : ([...seen.keys()][0] ?? conv) })
    else {
      const page = await callMethod(client, 'history', { conv, limit: historyLimit, ...(kind === 'folded' ? { fold: true } : {}) })
      const fault = faultOfHistory(page, kind)
      if (fault !== undefined) throw new Error(`the history of ${conv} is wrong: ${fault}`)
    }
    return kind
  }
}
