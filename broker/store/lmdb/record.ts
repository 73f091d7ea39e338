/**
 * What a journal record says: what the append does to the directory, and each conversation's name with its segments. It is all that
 * makes an append durable; reading the records again at start rebuilds what was in memory, and does what the directory still lacks.
 */
import type { ConversationId } from '../../topics.js'
import type { ConversationAppend, Effect, LogEntry, Retransmit } from '../store.js'
import { ByteReader, type ByteWriter } from './bytes.js'
import { type ReadBudget, readSegments, writeSegment } from './segment.js'

/** One segment, where it lies, and what the index needs of it. */
export interface Segment {
  conv: ConversationId
  bytes: Buffer
  /** In ascending seq. */
  entries: readonly LogEntry[]
}

/** What an append writes beside its log. */
export interface Deed {
  conv: ConversationId
  /** It begins the conversation. */
  isFirst: boolean
  effects: readonly Effect[]
  retransmits: readonly (Retransmit & { seq: number; ts: number })[]
}

export function deedsOf(batch: readonly ConversationAppend[]): Deed[] {
  const deeds: Deed[] = []
  for (const { conv, head, entries, effects, retransmits } of batch) {
    const isFirst = head === 0 && entries.length > 0
    if (!isFirst && effects.length === 0 && retransmits.length === 0) continue
    const sends = retransmits.map((retransmit) => ({ ...retransmit, ts: entries[retransmit.seq - head - 1]?.ts ?? 0 }))
    deeds.push({ conv, isFirst, effects, retransmits: sends })
  }
  return deeds
}

export const encodeDeeds = (deeds: readonly Deed[]): Buffer => (deeds.length === 0 ? noDeeds : Buffer.from(JSON.stringify(deeds)))

const noDeeds = Buffer.alloc(0)

/** Writes the body of a record; the segments returned lie in the writer's buffer. */
export function writeRecord(out: ByteWriter, deeds: Buffer, batch: readonly ConversationAppend[]): Segment[] {
  const segments: Segment[] = []
  out.u32(deeds.length).raw(deeds)
  for (const { conv, entries } of batch) {
    for (let first = 0; first < entries.length; ) {
      out.text(conv)
      const start = out.position
      const end = writeSegment(out, entries, first)
      segments.push({ conv, bytes: out.slice(start), entries: first === 0 && end === entries.length ? entries : entries.slice(first, end) })
      first = end
    }
  }
  return segments
}

const all: Readonly<ReadBudget> = { entries: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }

export function readDeeds(body: Buffer): Deed[] {
  const length = body.readUInt32BE(0)
  return length === 0 ? [] : (JSON.parse(body.toString('utf8', 4, 4 + length)) as Deed[])
}

/** The segments of a record, in the order in which they were appended. */
export function* readRecord(body: Buffer): Generator<Segment> {
  const reader = new ByteReader(body)
  reader.position = 4 + reader.u32()
  while (reader.position < body.length) {
    const conv = reader.text()
    const start = reader.position
    const bytes = body.subarray(start, start + 4 + reader.u32())
    reader.position = start + bytes.length
    const entries: LogEntry[] = []
    readSegments(bytes, 0, Number.POSITIVE_INFINITY, { ...all }, entries)
    yield { conv, bytes, entries }
  }
}
