/**
 * The record that an append leaves in the journal: each conversation's name with its segments. It is all that makes
 * the append durable; reading the records again at start rebuilds what was in memory.
 */
import type { ConversationId } from '../../topics.js'
import type { LogEntry } from '../store.js'
import { ByteReader, type ByteWriter } from './bytes.js'
import { type ReadBudget, readSegments, writeSegment } from './segment.js'

/** One segment, where it lies, and what the index needs of it. */
export interface Segment {
  conv: ConversationId
  bytes: Buffer
  /** In ascending seq. */
  entries: readonly LogEntry[]
}

/** Writes the entries of one conversation; the segments returned lie in the writer's buffer. */
export function writeRecord(out: ByteWriter, conv: ConversationId, entries: readonly LogEntry[]): Segment[] {
  const segments: Segment[] = []
  for (let first = 0; first < entries.length; ) {
    out.text(conv)
    const start = out.position
    const end = writeSegment(out, entries, first)
    segments.push({ conv, bytes: out.slice(start), entries: first === 0 && end === entries.length ? entries : entries.slice(first, end) })
    first = end
  }
  return segments
}

const all: Readonly<ReadBudget> = { entries: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }

/** The segments of a journal record, in the order in which they were appended. */
export function* readRecord(record: Buffer): Generator<Segment> {
  const reader = new ByteReader(record)
  while (reader.position < record.length) {
    const conv = reader.text()
    const start = reader.position
    const bytes = record.subarray(start, start + 4 + reader.u32())
    reader.position = start + bytes.length
    const entries: LogEntry[] = []
    readSegments(bytes, 0, Number.POSITIVE_INFINITY, { ...all }, entries)
    yield { conv, bytes, entries }
  }
}
