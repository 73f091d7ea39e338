/**
 * Latencies in microseconds, counted in buckets; a value is at most 0.8 % away from the middle of its bucket. Unlike the
 * histogram of perf_hooks it can be sent to another process, added and subtracted: a window is the difference of two snapshots.
 */

const subBits = 7
const subBuckets = 1 << subBits
const bucketsMax = (32 - subBits + 1) * subBuckets

/** Bucket index and count, by turns; empty buckets are left out. */
export type HistogramSnapshot = number[]

export class LatencyHistogram {
  readonly #counts = new Float64Array(bucketsMax)

  record(micros: number): void {
    const value = micros < 0 ? 0 : micros | 0
    const shift = value < subBuckets ? 0 : 31 - Math.clz32(value) - subBits + 1
    const at = (shift << subBits) + (value >>> shift)
    this.#counts[at] = (this.#counts[at] as number) + 1
  }

  get count(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0)
  }

  /** The value below or at which `share` (0…1) of the recorded values lie: the middle of its bucket; 0 when nothing was recorded. */
  quantile(share: number): number {
    let left = Math.ceil(this.count * share)
    if (left === 0) return 0
    for (let at = 0; at < bucketsMax; at++) {
      left -= this.#counts[at] as number
      if (left <= 0) return middle(at)
    }
    return middle(bucketsMax - 1)
  }

  add(snapshot: HistogramSnapshot, times: 1 | -1 = 1): void {
    for (let i = 0; i < snapshot.length; i += 2) {
      const at = snapshot[i] as number
      this.#counts[at] = (this.#counts[at] as number) + times * (snapshot[i + 1] as number)
    }
  }

  snapshot(): HistogramSnapshot {
    const pairs: number[] = []
    this.#counts.forEach((count, at) => {
      if (count > 0) pairs.push(at, count)
    })
    return pairs
  }
}

function middle(at: number): number {
  const shift = at >> subBits
  const low = (at & (subBuckets - 1)) * 2 ** shift
  return low + (2 ** shift - 1) / 2
}
