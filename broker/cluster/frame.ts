/**
 * What the nodes of a cluster tell each other of the log, as bytes. A frame carries the entries that one node has written in one turn; a
 * digest says how far it has taken the conversations in which it wrote lately, so that whoever missed a frame finds out. A receiver
 * believes neither more than the log: all of it is a hint.
 */
import type { Effect, LogEntry } from '../store/store.js'
import { type ConversationId, isGroup } from '../topics.js'

export interface Written {
  conv: ConversationId
  entry: LogEntry
  effects: readonly Effect[]
  /** The last entry of one append: what follows it was written later. */
  isEnd?: boolean
}

export interface FrameOfEntries {
  /** 0, 1, 2 … of the node. */
  number: number
  entries: readonly Written[]
}

export interface Head {
  conv: ConversationId
  head: number
  /** Members that came in lately. */
  joined: readonly string[]
}

export interface Digest {
  /** The next frame's. */
  number: number
  /** It covers what the frames from this one on have told. */
  from: number
  heads: readonly Head[]
  /** The node stops: nothing will come after this. */
  last: boolean
}

type Row = [conv: string, seq: number, ts: number, from: string, device: string, id: string, bytes: number, effects?: readonly Effect[]]

const lengthBytes = 4

export function encodeFrame({ number, entries }: FrameOfEntries): Buffer {
  const rows = entries.map(({ conv, entry, effects }): Row => {
    const { seq, ts, from, device, id, payload } = entry
    const row: Row = [conv, seq, ts, from, device, id, payload.length]
    if (effects.length > 0) row.push(effects)
    return row
  })
  const ends = entries.flatMap(({ isEnd }, index) => (isEnd ? [index] : []))
  const head = Buffer.from(JSON.stringify([number, rows, ends]))
  const length = Buffer.alloc(lengthBytes)
  length.writeUInt32BE(head.length)
  return Buffer.concat([length, head, ...entries.map(({ entry }) => entry.payload)])
}

/** Throws on what is no frame. The payloads are views of `bytes`. */
export function decodeFrame(bytes: Buffer): FrameOfEntries {
  const end = lengthBytes + bytes.readUInt32BE(0)
  const [number, rows, ends] = JSON.parse(bytes.toString('utf8', lengthBytes, end)) as [number, Row[], number[]]
  const atEnd = new Set(ends)
  if (!isCount(number)) throw new TypeError('no frame number')
  let at = end
  const entries = rows.map(([conv, seq, ts, from, device, id, length, effects = []], index): Written => {
    if (!isConversation(conv) || !isCount(seq) || !isCount(length) || at + length > bytes.length) throw new TypeError('no entry')
    const payload = bytes.subarray(at, at + length)
    at += length
    return { conv, entry: { seq, ts, from, device, id, payload }, effects, isEnd: atEnd.has(index) }
  })
  return { number, entries }
}

export function encodeDigest({ number, from, heads, last }: Digest): Buffer {
  const rows = heads.map(({ conv, head, joined }) => (joined.length > 0 ? [conv, head, joined] : [conv, head]))
  return Buffer.from(JSON.stringify([number, from, rows, last ? 1 : 0]))
}

/** Throws on what is no digest. */
export function decodeDigest(bytes: Buffer): Digest {
  const [number, from, rows, last] = JSON.parse(bytes.toString()) as [number, number, [string, number, string[]?][], number]
  if (!isCount(number) || !isCount(from)) throw new TypeError('no digest')
  const heads = rows.map(([conv, head, joined = []]) => {
    if (!isConversation(conv) || !isCount(head)) throw new TypeError('no head')
    return { conv, head, joined }
  })
  return { number, from, heads, last: last === 1 }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isConversation = (value: unknown): value is ConversationId =>
  typeof value === 'string' && (isGroup(value) ? value.length > 2 : /^u\/[^/]+\/[^/]+$/.test(value))
