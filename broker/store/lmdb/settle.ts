/**
 * Moves conversations of the settling generation from memory into the tables, inside a transaction; with the last of them it notes that
 * their journal records are not needed any more. What it wrote is forgotten in memory only after the commit.
 */
import type { ConversationId } from '../../topics.js'
import { type ByteWriter, decodeSeq, encodeSeq } from './bytes.js'
import type { DirectoryTables } from './directory.js'
import type { Table } from './environment.js'
import { chunkKey, plainKey, rowField, rowKey, sentKeysOf } from './keys.js'
import type { Recent, RecentConversation, RecentSegment } from './recent.js'

export interface SettleTables {
  journal: Table
  chunks: Table
  sent: Table
}

export interface Settled {
  conversations: readonly ConversationId[]
  /** Called after the commit. */
  forget(): void
  /** Journal records up to this one are in the tables, if that is news. */
  released: number | undefined
}

/** A chunk ends with the segment that brings it over this. */
const chunkBytesMax = 64 * 1024

export interface SettleBudget {
  /** About so much is moved. */
  cost: number
  /** A conversation that takes more than is left of this stays where it is, until the disk has room for it. */
  bytes: number
}

/** A message's row in the index, key and page share included. */
const indexRowBytes = 160

function bytesOf(segments: readonly RecentSegment[]): number {
  let bytes = 0
  for (const segment of segments) bytes += segment.bytes.length
  return bytes
}

/**
 * Puts conversations into the tables as far as the budget goes; undefined when nothing is settled. What is put may lie in `arena`, which
 * must not be written to again before the commit is over. `durable`: the last record of the journal.
 */
export function settleSome(
  recent: Recent,
  tables: SettleTables,
  directory: DirectoryTables,
  budget: SettleBudget,
  arena: ByteWriter,
  durable: number,
): Settled | undefined {
  const { settling } = recent
  if (settling === undefined) return undefined
  const moved: ConversationId[] = []
  let spent = 0
  let room = budget.bytes
  let bytes = 0
  for (const [conv, { segments, ids, cost }] of settling.conversations) {
    const chunksBytes = bytesOf(segments)
    room -= chunksBytes + ids.length * indexRowBytes
    if (room < 0) break
    moved.push(conv)
    bytes += chunksBytes
    spent += cost
    if (spent >= budget.cost) break
  }
  if (moved.length === 0) return undefined
  arena.reset(bytes)
  for (const conv of moved) {
    const conversation = settling.conversations.get(conv) as RecentConversation
    putChunks(tables.chunks, conv, conversation.segments, arena)
    putSent(tables.sent, directory.rows, conv, conversation)
  }
  const isLast = moved.length === settling.conversations.size
  if (isLast) putReleased(tables.journal, settling.lastRecord)
  putDurable(tables.journal, durable)
  return {
    conversations: moved,
    forget: () => {
      for (const conv of moved) settling.conversations.delete(conv)
      if (isLast) recent.settling = undefined
    },
    released: isLast ? settling.lastRecord : undefined,
  }
}

/** Number of the last journal record of which all is in the tables; undefined in a new store. */
export const releasedRecord = (journal: Table): number | undefined => numberIn(journal, 'released')

export const putReleased = (journal: Table, number: number): void => journal.put(plainKey('released'), encodeSeq(number))

/** Number of the last journal record whose deeds are done. */
export const doneRecord = (journal: Table): number => numberIn(journal, 'done') ?? 0

export const putDone = (journal: Table, number: number): void => journal.put(plainKey('done'), encodeSeq(number))

/** Number of a journal record that is on the disk, of a run before as well: a journal that ends before it has been cut. */
export const durableRecord = (journal: Table): number => Math.max(numberIn(journal, 'durable') ?? 0, doneRecord(journal))

export const putDurable = (journal: Table, number: number): void => journal.put(plainKey('durable'), encodeSeq(number))

function numberIn(journal: Table, name: string): number | undefined {
  const value = journal.get(plainKey(name))
  return value === undefined ? undefined : decodeSeq(value)
}

function putChunks(chunks: Table, conv: ConversationId, segments: readonly RecentSegment[], arena: ByteWriter): void {
  let start = arena.position
  for (let at = 0; at < segments.length; at++) {
    const { bytes, lastSeq, lastTs } = segments[at] as RecentSegment
    arena.raw(bytes)
    if (arena.position - start < chunkBytesMax && at < segments.length - 1) continue
    chunks.put(chunkKey(conv, lastSeq, lastTs), arena.slice(start))
    start = arena.position
  }
}

const seqBytes = 6

function putSent(sent: Table, rows: Table, conv: ConversationId, recent: RecentConversation): void {
  const { senders, ids } = recent
  const keyOf = sentKeysOf(conv)
  const seqs = Buffer.allocUnsafe(seqBytes * ids.length)
  for (let at = 0; at < ids.length; at++) {
    const position = seqBytes * at
    seqs.writeUIntBE(recent.seqOf(at), position, seqBytes)
    sent.put(keyOf(senders[at] as string, ids[at] as string), seqs.subarray(position, position + seqBytes))
  }
  for (const [from, seq] of recent.lastSent) if (from !== '') rows.put(rowKey(from, conv, rowField.sent), encodeSeq(seq))
}
