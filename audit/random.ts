/** Random numbers that a seed repeats; whatever the audit chooses, it chooses by these. */

/** A whole number from 0 to below `below`. */
export type Random = (below: number) => number

/** mulberry32: good enough to choose with, the same for the same seed. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** The list must not be empty. */
export const pick = <Value>(random: Random, list: readonly Value[]): Value => list[random(list.length)] as Value

export function shuffle<Value>(random: Random, list: readonly Value[]): Value[] {
  const shuffled = [...list]
  for (let at = shuffled.length - 1; at > 0; at--) {
    const other = random(at + 1)
    const held = shuffled[at] as Value
    shuffled[at] = shuffled[other] as Value
    shuffled[other] = held
  }
  return shuffled
}
