/** Puts other payloads into chunks, inside a transaction. A chunk keeps its key, as no seq and no time changes. */
import type { ConversationId } from '../../topics.js'
import type { LogEntry } from '../store.js'
import { ByteWriter } from './bytes.js'
import type { Table } from './environment.js'
import { chunkKey, chunksEnd, lastSeqOf } from './keys.js'
import { entriesBytesMax, readSegments, writeSegment } from './segment.js'

export function rewriteChunks(chunks: Table, conv: ConversationId, payloads: ReadonlyMap<number, Buffer>): void {
  let done = 0
  for (const seq of [...payloads.keys()].sort((a, b) => a - b)) {
    if (seq <= done) continue
    for (const { key, value } of chunks.getRange({ start: chunkKey(conv, seq, 0), end: chunksEnd(conv), limit: 1 })) {
      chunks.put(key, rewritten(value, payloads))
      done = lastSeqOf(key)
    }
  }
}

function rewritten(chunk: Buffer, payloads: ReadonlyMap<number, Buffer>): Buffer {
  const found: LogEntry[] = []
  readSegments(chunk, 0, Number.MAX_SAFE_INTEGER, { entries: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }, found)
  const entries = found.map((entry) => {
    const payload = payloads.get(entry.seq)
    return payload === undefined ? entry : { ...entry, device: '', payload }
  })
  const out = new ByteWriter(entriesBytesMax(entries))
  for (let first = 0; first < entries.length; ) first = writeSegment(out, entries, first)
  return out.slice()
}
