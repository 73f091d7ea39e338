/**
 * The message log on LMDB. An append writes one journal record, sequentially, and that is what makes it durable; until
 * its entries are settled into the tables they are served from memory (`recent.ts`), which is rebuilt from the journal at
 * start. Settling rides in the transactions of later appends and writes per conversation one chunk of many entries,
 * the index (conversation, sender, message id) → seq, and the `sent` positions; it costs a page per conversation and
 * generation instead of one per conversation and append.
 * Chunks are keyed by conversation, last seq and time: the head is the last key, the chunk with seq n is the first whose
 * last seq is not below n, and there is no counter that could disagree with the log.
 */
import type { ConversationId } from '../../topics.js'
import { isGroup, usersOf } from '../../topics.js'
import type { ConversationAppend, LogEntry, MessageLog, Retransmit, SentKey, SentRecord } from '../store.js'
import { checkedBytes, idLengthMax } from './append-check.js'
import { ByteWriter, decodeSeq } from './bytes.js'
import { type DirectoryTables, directMembership, putEffect } from './directory.js'
import type { Environment, Table } from './environment.js'
import { readRecord, writeRecord } from './journal.js'
import { chunkKey, chunksEnd, lastSeqOf, lastTsOf, plainKey, recordKey, recordOf, rowField, rowKey, sentKey } from './keys.js'
import { costOf, type Recent } from './recent.js'
import { type ReadBudget, readSegments } from './segment.js'
import { type Settled, settleSome } from './settle.js'

const bytesMaxDefault = 4 * 1024 * 1024
/** What one append may hold before its buffer is given back. */
const arenaKeptBytesMax = 16 * 1024 * 1024
const arenaBytesMin = 1024 * 1024
/** Settling is faster than appending by this, so that a generation is done before the next one is full. */
const settleRatio = 1.5

export interface LogTables {
  journal: Table
  chunks: Table
  sent: Table
  retransmits: Table
}

export class LmdbMessageLog implements MessageLog {
  readonly #environment: Environment
  readonly #tables: LogTables
  readonly #directory: DirectoryTables
  readonly #recent: Recent
  /** Number of the last journal record. */
  #record = 0
  /** Values of the append in progress; LMDB has copied them when it settles. */
  #arena = new ByteWriter(arenaBytesMin)
  #last: Promise<unknown> = Promise.resolve()

  constructor(environment: Environment, tables: LogTables, directory: DirectoryTables, recent: Recent) {
    this.#environment = environment
    this.#tables = tables
    this.#directory = directory
    this.#recent = recent
    this.#restore()
  }

  /** Reads the journal: what is not in the tables yet goes back into memory. */
  #restore(): void {
    for (const { key, value } of this.#tables.journal.getRange({ start: recordKey(0) })) {
      this.#record = recordOf(key)
      for (const segment of readRecord(value)) {
        const last = segment.entries.at(-1) as LogEntry
        if (last.seq > this.#settledHead(segment.conv).head) this.#recent.add(segment, segment.bytes, this.#record)
      }
    }
    this.#recent.turn(0)
  }

  append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    const appended = this.#last.then(() => this.#append(batch))
    this.#last = appended.then(done, done)
    return appended
  }

  async #append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    this.#environment.assertWritable()
    const bytes = checkedBytes(batch)
    const conflicts: ConversationId[] = []
    const accepted: ConversationAppend[] = []
    for (const append of batch) {
      if (this.#head(append.conv).head === append.head) accepted.push(append)
      else conflicts.push(append.conv)
    }
    if (accepted.length > 0) await this.#commit(accepted, bytes)
    return conflicts
  }

  #commit(accepted: readonly ConversationAppend[], bytes: number): Promise<void> {
    const arena = this.#arena.reset(bytes)
    const record = this.#record + 1
    const segments = accepted.flatMap(({ conv, entries }) => writeRecord(arena, conv, entries))
    const journal = arena.slice()
    const cost = segments.reduce((sum, segment) => sum + costOf(segment), 0)
    const room = this.#environment.roomBytes(bytes) / settleGrowth
    let settled: Settled | undefined
    const write = (): void => {
      if (segments.length > 0) this.#tables.journal.put(recordKey(record), journal)
      for (const append of accepted) this.#putDirectory(append)
      settled = settleSome(this.#recent, this.#tables, this.#directory, { cost: cost * settleRatio, bytes: room })
    }
    const remember = (): void => {
      this.#record = record
      settled?.forget()
      this.#recent.addAll(segments, journal, record)
      if (arena.bytes.length > arenaKeptBytesMax) this.#arena = new ByteWriter(arenaBytesMin)
    }
    return this.#environment.commit(write, remember, bytes)
  }

  /** What of an append is read by other keys than its log: memberships, effects, retransmissions. */
  #putDirectory({ conv, head, entries, effects, retransmits }: ConversationAppend): void {
    const { rows } = this.#directory
    if (head === 0 && entries.length > 0 && !isGroup(conv)) {
      for (const user of usersOf(conv)) rows.put(rowKey(user, conv, rowField.membership), directMembership)
    }
    for (const effect of effects) putEffect(this.#directory, effect)
    for (const { session, packetId, digest, seq } of retransmits) {
      const ts = entries[seq - head - 1]?.ts ?? 0
      this.#tables.retransmits.put(retransmitKey(session, packetId), Buffer.from(JSON.stringify({ packetId, digest, conv, seq, ts })))
    }
  }

  #head(conv: ConversationId): { head: number; ts: number } {
    const last = this.#recent.last(conv)
    return last === undefined ? this.#settledHead(conv) : { head: last.lastSeq, ts: last.lastTs }
  }

  #settledHead(conv: ConversationId): { head: number; ts: number } {
    const range = { start: chunksEnd(conv), end: chunkKey(conv, 0, 0), reverse: true, limit: 1 }
    for (const key of this.#tables.chunks.getKeys(range)) return { head: lastSeqOf(key), ts: lastTsOf(key) }
    return { head: 0, ts: 0 }
  }

  async head(conv: ConversationId): Promise<number> {
    this.#environment.assertOpen()
    return this.#head(conv).head
  }

  async heads(convs: readonly ConversationId[]): Promise<{ head: number; ts: number }[]> {
    this.#environment.assertOpen()
    return convs.map((conv) => this.#head(conv))
  }

  async findSent(conv: ConversationId, from: string, id: string): Promise<number | undefined> {
    this.#environment.assertOpen()
    return this.#findSent({ conv, from, id })
  }

  async findSentAll(keys: readonly SentKey[]): Promise<(number | undefined)[]> {
    this.#environment.assertOpen()
    return keys.map((key) => this.#findSent(key))
  }

  #findSent({ conv, from, id }: SentKey): number | undefined {
    if (id.length > idLengthMax) return undefined
    const recent = this.#recent.findSent(conv, from, id)
    if (recent !== undefined) return recent
    const value = this.#tables.sent.get(sentKey(conv, from, id))
    return value === undefined ? undefined : decodeSeq(value)
  }

  async findRetransmit({ session, packetId, digest }: Retransmit): Promise<(SentRecord & { ts: number }) | undefined> {
    this.#environment.assertOpen()
    const found = this.#tables.retransmits.get(retransmitKey(session, packetId))
    if (found === undefined) return undefined
    const record = JSON.parse(found.toString()) as SentRecord & { packetId: number; digest: string; ts: number }
    return record.packetId === packetId && record.digest === digest ? { conv: record.conv, seq: record.seq, ts: record.ts } : undefined
  }

  async read(conv: ConversationId, from: number, to: number, limit: number, bytesMax = bytesMaxDefault): Promise<LogEntry[]> {
    this.#environment.assertOpen()
    const found: LogEntry[] = []
    if (from > to || to < 1 || limit < 1) return found
    const budget = { entries: limit, bytes: Math.max(bytesMax, 1) }
    this.#readChunks(conv, Math.max(from, 1), to, budget, found)
    for (const { segments } of this.#recent.of(conv)) {
      for (const { bytes, lastSeq } of segments) {
        const next = found.length === 0 ? from : (found.at(-1) as LogEntry).seq + 1
        if (budget.entries <= 0 || budget.bytes <= 0 || next > to) return found
        if (lastSeq >= next) readSegments(bytes, next, to, budget, found)
      }
    }
    return found
  }

  #readChunks(conv: ConversationId, from: number, to: number, budget: ReadBudget, found: LogEntry[]): void {
    for (const { key, value } of this.#tables.chunks.getRange({ start: chunkKey(conv, from, 0), end: chunksEnd(conv) })) {
      readSegments(value, from, to, budget, found)
      if (lastSeqOf(key) >= to || budget.entries <= 0 || budget.bytes <= 0) return
    }
  }
}

/** A settled byte may need so many on the disk, for index pages and copies. */
const settleGrowth = 3

/** Sends without id that are remembered per session: as many as a client may have under way. */
const retransmitsMax = 256
const retransmitKey = (session: string, packetId: number): Buffer => plainKey(session, String(packetId % retransmitsMax))

const done = (): void => undefined
