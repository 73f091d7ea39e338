/** Checks an append before anything of it is written: a fault of the caller must not leave half of it behind. */
import type { ConversationId } from '../../topics.js'
import type { ConversationAppend, LogEntry } from '../store.js'
import { textBytesMax } from './bytes.js'
import { entriesBytesMax } from './segment.js'

/** Code units; the protocol allows 64 characters. */
export const idLengthMax = 128
const nameLengthMax = 64
const convLengthMax = 2 * nameLengthMax + 3
const payloadBytesMax = 16 * 1024 * 1024

/** Throws before anything is written; returns the bytes that its journal record may take. */
export function checkedBytes(batch: readonly ConversationAppend[]): number {
  let bytes = 0
  const seen = new Set<ConversationId>()
  for (const { conv, head, entries } of batch) {
    if (seen.has(conv)) throw new Error(`an append names ${conv} twice; all its entries belong in one item`)
    seen.add(conv)
    if (conv.length > convLengthMax) throw new Error(`a conversation name is longer than ${convLengthMax}: ${conv}`)
    for (let at = 0; at < entries.length; at++) checkEntry(conv, head + 1 + at, entries[at] as LogEntry)
    bytes += entriesBytesMax(entries) + textBytesMax(conv.length) * entries.length
  }
  return bytes
}

function checkEntry(conv: ConversationId, seq: number, { seq: found, from, device, id, payload }: LogEntry): void {
  if (found !== seq) throw new Error(`an entry of ${conv} has seq ${found} where ${seq} belongs`)
  if (from.length > nameLengthMax || device.length > nameLengthMax || id.length > idLengthMax) {
    throw new Error(
      `entry ${seq} of ${conv} has a sender, device or id over the limit of ${nameLengthMax}, ${nameLengthMax}, ${idLengthMax}`,
    )
  }
  if (payload.length > payloadBytesMax)
    throw new Error(`entry ${seq} of ${conv} has ${payload.length} bytes, the limit is ${payloadBytesMax}`)
}
