/** Entries and appends for the contract suites, and random numbers that can be repeated from a printed seed. */
import type { ConversationAppend, LogEntry } from '../../broker/store/store.js'

export { createRandom } from '../../audit/random.js'

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

/** From PARLEY_TEST_SEED, or a new one; print it. */
export const newSeed = (): number => Number(process.env.PARLEY_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
