/**
 * A segment: the entries of one conversation that one append wrote, encoded once and then only copied: into the journal
 * record of the append, into memory, and later, with its neighbours, into a chunk. Layout, big-endian: bytes that
 * follow u32, first seq u48, senders − 1 u8, entries u16, then each sender (from, device), then each entry: payload length
 * u32, sender u8, ts u48, id, payload.
 */
import type { LogEntry } from '../store.js'
import { ByteReader, type ByteWriter, textBytesMax } from './bytes.js'

const segmentEntriesMax = 256
/** A segment ends with the entry that brings it over this. */
const segmentBytesMax = 64 * 1024

const headBytes = 13
const entryHeadBytes = 11
const afterPayloadLengthBytes = entryHeadBytes - 4

/** Upper bound of what the entries take, whatever segments they are put in. */
export function entriesBytesMax(entries: readonly LogEntry[]): number {
  let bytes = 0
  for (const { from, device, id, payload } of entries) {
    bytes += headBytes + entryHeadBytes + payload.length + textBytesMax(from.length) + textBytesMax(device.length) + textBytesMax(id.length)
  }
  return bytes
}

/** Writes a segment with the entries from index `first` on; returns the index of the first entry that is not in it. */
export function writeSegment(out: ByteWriter, entries: readonly LogEntry[], first: number): number {
  const end = segmentEnd(entries, first)
  const start = out.position
  const senders: LogEntry[] = []
  for (let i = first; i < end; i++) addSender(senders, entries[i] as LogEntry)
  out
    .u32(0)
    .u48((entries[first] as LogEntry).seq)
    .u8(senders.length - 1)
    .u16(end - first)
  for (const { from, device } of senders) out.text(from).text(device)
  for (let i = first; i < end; i++) {
    const entry = entries[i] as LogEntry
    out.u32(entry.payload.length).u8(senderIndex(senders, entry)).u48(entry.ts).text(entry.id).raw(entry.payload)
  }
  out.bytes.writeUInt32BE(out.position - start - 4, start)
  return end
}

function segmentEnd(entries: readonly LogEntry[], first: number): number {
  const last = Math.min(entries.length, first + segmentEntriesMax)
  let bytes = 0
  let end = first
  while (end < last && bytes < segmentBytesMax) bytes += (entries[end++] as LogEntry).payload.length
  return end
}

function senderIndex(senders: readonly LogEntry[], { from, device }: LogEntry): number {
  for (let i = 0; i < senders.length; i++) {
    const sender = senders[i] as LogEntry
    if (sender.from === from && sender.device === device) return i
  }
  return -1
}

function addSender(senders: LogEntry[], entry: LogEntry): void {
  if (senderIndex(senders, entry) === -1) senders.push(entry)
}

/** What a read still takes. */
export interface ReadBudget {
  entries: number
  bytes: number
}

/** Adds the entries from…to of the segments in `bytes` to `found` until the budget is used up; payloads share its memory. */
export function readSegments(bytes: Buffer, from: number, to: number, budget: ReadBudget, found: LogEntry[]): void {
  const reader = new ByteReader(bytes)
  while (reader.position < bytes.length) {
    const length = reader.u32()
    const end = reader.position + length
    const firstSeq = reader.u48()
    if (firstSeq > to) return
    const senders = reader.u8() + 1
    const lastSeq = firstSeq + reader.u16() - 1
    if (lastSeq >= from) readEntries(reader, senders, firstSeq, Math.min(lastSeq, to), from, budget, found)
    if (budget.entries <= 0 || budget.bytes <= 0) return
    reader.position = end
  }
}

function readEntries(
  reader: ByteReader,
  senders: number,
  firstSeq: number,
  lastSeq: number,
  from: number,
  budget: ReadBudget,
  found: LogEntry[],
): void {
  const names: string[] = []
  for (let i = 0; i < senders; i++) names.push(reader.text(), reader.text())
  for (let seq = firstSeq; seq <= lastSeq; seq++) {
    const payloadBytes = reader.u32()
    if (seq < from) {
      reader.position += afterPayloadLengthBytes
      reader.skipText()
      reader.position += payloadBytes
      continue
    }
    if (budget.entries <= 0 || budget.bytes <= 0) return
    const sender = reader.u8() * 2
    const ts = reader.u48()
    const id = reader.text()
    found.push({ seq, ts, from: names[sender] as string, device: names[sender + 1] as string, id, payload: reader.raw(payloadBytes) })
    budget.entries -= 1
    budget.bytes -= payloadBytes
  }
}
