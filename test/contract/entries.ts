/** Entries and appends for the contract suites, and random numbers that can be repeated from a printed seed. */
import type { ConversationAppend, LogEntry } from '../../broker/store/store.js'

export function entry(seq: number, from = 'alice', id = `c${seq}`): LogEntry {
  return { seq, ts: 1_700_000_000_000 + seq, from, device: 'phone', id, payload: Buffer.from(JSON.stringify({ seq, from, id })) }
}

/** `count` entries behind `head`, or exactly these. */
export function append(
  conv: string,
  head: number,
  entries: number | LogEntry[] = 1,
  more: Partial<ConversationAppend> = {},
): ConversationAppend {
  const list = typeof entries === 'number' ? Array.from({ length: entries }, (_, i) => entry(head + 1 + i)) : entries
  return { conv, head, entries: list, effects: [], retransmits: [], ...more }
}

/** mulberry32: good enough to choose with, the same for the same seed. */
export function createRandom(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** From PARLEY_TEST_SEED, or a new one; print it. */
export const newSeed = (): number => Number(process.env.PARLEY_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
