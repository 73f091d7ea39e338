/** Seeded random numbers, equal in all load processes: all of them must make the same plan. */

export type Random = () => number

/** Mulberry32: numbers from 0 to below 1. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Draws an index in proportion to its weight. */
export class WeightedPick {
  readonly #sums: Float64Array
  readonly total: number

  constructor(weights: readonly number[]) {
    this.#sums = new Float64Array(weights.length)
    let sum = 0
    weights.forEach((weight, index) => {
      sum += weight
      this.#sums[index] = sum
    })
    this.total = sum
  }

  /** `at` from 0 to below 1. */
  pick(at: number): number {
    const wanted = at * this.total
    let [low, high] = [0, this.#sums.length - 1]
    while (low < high) {
      const mid = (low + high) >> 1
      if ((this.#sums[mid] as number) > wanted) high = mid
      else low = mid + 1
    }
    return low
  }
}
