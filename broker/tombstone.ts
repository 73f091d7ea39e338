/**
 * What is left of a message whose content was erased: its place, sender, id and what it was. So the log keeps its order without a gap, a
 * late resend is known, and clients fold nothing from it. Recalls and `system` entries have no content of their own and stay.
 */
import type { LogEntry } from './store/store.js'

const kept: ReadonlySet<string> = new Set(['system', 'recall', 'erased'])
/** The last field of the stored form, which in every other message is another one. */
const ending = Buffer.from(',"type":"erased"}')

interface Stored {
  to?: string
  group?: string
  type: string
}

/** The stored form without content; undefined when the entry has none. */
export function tombstoneOf({ seq, ts, from, id, payload }: LogEntry): Buffer | undefined {
  const { to, group, type } = JSON.parse(payload.toString()) as Stored
  if (kept.has(type)) return undefined
  return Buffer.from(JSON.stringify({ seq, ts, from, to, group, id, was: type, type: 'erased' }))
}

export const isTombstone = (payload: Buffer): boolean => payload.subarray(-ending.length).equals(ending)
