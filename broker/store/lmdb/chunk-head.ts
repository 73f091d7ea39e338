/** The end of a conversation as the table of chunks has it. */
import type { ConversationId } from '../../topics.js'
import type { Table } from './environment.js'
import { chunksEnd, isChunkBelow, lastSeqOf, lastTsOf } from './keys.js'

/** By one bound, which is half of what a bounded range takes, and many are read at once: the key below it may be another conversation's. */
export function chunkHead(chunks: Table, conv: ConversationId): { head: number; ts: number } {
  const bound = chunksEnd(conv)
  for (const key of chunks.getKeys({ start: bound, reverse: true, limit: 1 })) {
    if (isChunkBelow(key, bound)) return { head: lastSeqOf(key), ts: lastTsOf(key) }
  }
  return { head: 0, ts: 0 }
}
