/**
 * The message log on LMDB and a journal. An append writes one journal record, sequentially, and that is what makes it durable; until
 * its entries are settled into the tables they are served from memory (`recent.ts`), which is rebuilt from the journal at
 * start. Settling goes on beside the appends, in transactions of its own, and writes per conversation one chunk of many entries,
 * the index (conversation, sender, message id) → seq, and the `sent` positions; it costs a page per conversation and
 * generation instead of one per conversation and append. What an append does to the directory is in its record too, and in the tables
 * before it resolves.
 * Chunks are keyed by conversation, last seq and time: the head is the last key, the chunk with seq n is the first whose
 * last seq is not below n, and there is no counter that could disagree with the log.
 */
import type { ConversationId } from '../../topics.js'
import { isGroup, usersOf } from '../../topics.js'
import { hashOfId, hashOfKey } from '../id-hashes.js'
import {
  type ConversationAppend,
  type LogEntry,
  type LogPlace,
  type MessageLog,
  readBytesMax,
  type SentKey,
  type StoredRetransmit,
  StoreUnavailable,
} from '../store.js'
import { checkedBytes, idLengthMax } from './append-check.js'
import { ByteWriter, decodeSeq } from './bytes.js'
import { chunkHead } from './chunk-head.js'
import { type DirectoryTables, directMembership, putEffect } from './directory.js'
import type { Environment, Table } from './environment.js'
import { Journal, recordHeadBytes } from './journal.js'
import { chunkKey, chunksEnd, lastSeqOf, plainKey, plainRange, rowField, rowKey, sentKey, textsOf } from './keys.js'
import { KnownIds, readIdsMax } from './known-ids.js'
import type { Recent } from './recent.js'
import { type Deed, deedsOf, encodeDeeds, readDeeds, readRecord, type Segment, writeRecord } from './record.js'
import { rewriteChunks } from './rewrite.js'
import { lowest, pageMax, rowsOf } from './rows.js'
import { type ReadBudget, readSegments } from './segment.js'
import { doneRecord, durableRecord, putDone, putDurable, putReleased, releasedRecord, type Settled, settleSome } from './settle.js'

/** A chunk that is written anew, shared by its entries. */
const rewriteBytes = 4_096
/** What one append may hold before its buffer is given back. */
const arenaKeptBytesMax = 16 * 1024 * 1024
const arenaBytesMin = 1024 * 1024
/** Messages that are settled in one transaction: few enough that nobody notices, and more when much has come since. */
const settleCostMin = 256
const settleShare = 1 / 8

const settledHeadsMax = 200_000

export interface LogTables {
  /** What is known of the journal; the records are files. */
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
  readonly #journal: Journal
  /** The record of the append in progress. */
  #arena = new ByteWriter(arenaBytesMin)
  /** The chunks of the commit in progress. */
  #chunkArena = new ByteWriter(arenaBytesMin)
  #last: Promise<unknown> = Promise.resolve()
  #working = 0
  /** Records that are durable, and have still to be done to the directory before anybody may see them. */
  #owed: Owed[] = []
  #settling: Promise<void> | undefined
  /** What was read of the tables, until more is settled: who has many conversations asks for all their heads again and again. */
  readonly #settledHeads = new Map<ConversationId, { head: number; ts: number }>()
  readonly #known = new KnownIds((conv) => this.#idsOf(conv))

  constructor(environment: Environment, tables: LogTables, directory: DirectoryTables, recent: Recent, journalDir: string) {
    this.#environment = environment
    this.#tables = tables
    this.#directory = directory
    this.#recent = recent
    const doneBefore = doneRecord(tables.journal)
    const numbers = { released: releasedRecord(tables.journal) ?? 0, durable: durableRecord(tables.journal) }
    this.#journal = new Journal(journalDir, numbers, ({ number, body }) => {
      const deeds = readDeeds(body)
      // Not again what is done: it may have been undone since, as when a session is removed.
      if (number > doneBefore && deeds.length > 0) this.#owed.push({ number, deeds, done })
      for (const segment of readRecord(body)) {
        const last = segment.entries.at(-1) as LogEntry
        if (last.seq > this.#settledHead(segment.conv).head) recent.add(segment, segment.bytes, number)
      }
    })
  }

  /** To be called before anything is read. A store that cannot be written now is good for reading, and does the rest when it can. */
  async restore(): Promise<void> {
    this.#recent.turn(0)
    await this.#pay().catch(ignoreFault)
    void this.#settle()
  }

  /** With nothing under way the write has begun when this returns, so that the caller can do other things meanwhile. */
  append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    return this.#inTurn(() => this.#append(batch))
  }

  /** One after the other; at once when nothing is under way. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const worked = this.#working++ === 0 ? work() : this.#last.then(work)
    const over = (): void => void this.#working--
    this.#last = worked.then(over, over)
    return worked
  }

  async #append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    this.#environment.assertWritable()
    if (!this.#journal.isInPlace) throw new StoreUnavailable('the journal was removed or replaced while it was open; restart the server')
    const bytes = checkedBytes(batch)
    if (this.#owed.length > 0) await this.#pay()
    if (this.#recent.isFull) await this.#settle()
    if (this.#recent.isFull) throw new StoreUnavailable('there is no room to move the journal into the tables')
    const conflicts: ConversationId[] = []
    const accepted: ConversationAppend[] = []
    for (const append of batch) {
      if (this.#head(append.conv).head === append.head) accepted.push(append)
      else conflicts.push(append.conv)
    }
    if (accepted.length > 0) await this.#commit(accepted, bytes)
    return conflicts
  }

  async #commit(accepted: readonly ConversationAppend[], bytes: number): Promise<void> {
    const deeds = deedsOf(accepted)
    const encoded = encodeDeeds(deeds)
    const arena = this.#arena.reset(recordHeadBytes + 4 + encoded.length + bytes)
    arena.position = recordHeadBytes
    const segments = writeRecord(arena, encoded, accepted)
    const record = arena.slice()
    const write = async (): Promise<void> => {
      const number = await this.#journal.append(record)
      // Whatever else fails: from here on its entries are in the log.
      this.#owed.push({ number, deeds, done: () => this.#remember(record, number, segments) })
      if (deeds.length === 0) this.#finish()
    }
    await this.#environment.write(write, record.length)
    await this.#pay()
    void this.#settle()
  }

  #remember(record: Buffer, number: number, segments: readonly Segment[]): void {
    this.#recent.addAll(segments, record, number)
    for (const { conv, entries } of segments) for (const { from, id } of entries) this.#known.add(conv, from, id)
    this.#arena = keptOrNew(this.#arena)
  }

  /** Brings the directory to where the journal is, and shows what it has. */
  async #pay(): Promise<void> {
    const owed = this.#owed
    if (owed.length === 0) return
    const work = (): void => {
      for (const { deeds } of owed) for (const deed of deeds) this.#do(deed)
      putDone(this.#tables.journal, (owed.at(-1) as Owed).number)
    }
    await this.#environment.commit(work, () => this.#finish())
  }

  #finish(): void {
    for (const { done } of this.#owed.splice(0)) done()
  }

  /** What of an append is read by other keys than its log: memberships, effects, retransmissions. */
  #do({ conv, isFirst, effects, retransmits }: Deed): void {
    const { rows } = this.#directory
    if (isFirst && !isGroup(conv)) for (const user of usersOf(conv)) rows.put(rowKey(user, conv, rowField.membership), directMembership)
    for (const effect of effects) putEffect(this.#directory, effect)
    for (const { session, packetId, digest, seq, ts } of retransmits) {
      this.#tables.retransmits.put(retransmitKey(session, packetId), Buffer.from(JSON.stringify({ packetId, digest, conv, seq, ts })))
    }
  }

  /** Moves full generations from memory into the tables, beside whatever else goes on. Resolves when one is done, or must wait. */
  #settle(): Promise<void> {
    if (this.#recent.turn()) this.#journal.turn()
    if (this.#recent.settling === undefined) return Promise.resolve()
    this.#settling ??= this.#settleGeneration().then(
      () => {
        this.#settling = undefined
        void this.#settle()
      },
      // The disk is full or does not answer: the next append tries again.
      (error) => {
        this.#settling = undefined
        this.#environment.report(error)
      },
    )
    return this.#settling
  }

  async #settleGeneration(): Promise<void> {
    while (this.#recent.settling !== undefined) {
      let settled: Settled | undefined
      const room = this.#environment.roomBytes(0) / settleGrowth
      const cost = Math.max(settleCostMin, this.#recent.filling.cost * settleShare)
      const work = (): void => {
        settled = settleSome(this.#recent, this.#tables, this.#directory, { cost, bytes: room }, this.#chunkArena, this.#journal.number)
      }
      await this.#environment.commit(work, () => {
        settled?.forget()
        for (const conv of settled?.conversations ?? []) this.#settledHeads.delete(conv)
      })
      this.#chunkArena = keptOrNew(this.#chunkArena)
      if (settled === undefined) throw new StoreUnavailable('there is no room to settle')
      if (settled.released !== undefined) this.#journal.release(settled.released)
    }
  }

  async rewrite(conv: ConversationId, payloads: ReadonlyMap<number, Buffer>): Promise<void> {
    const last = Math.min(Math.max(0, ...payloads.keys()), await this.head(conv))
    while (this.#settledHead(conv).head < last) await this.#settleNow()
    let bytes = rewriteBytes
    for (const payload of payloads.values()) bytes += payload.length + rewriteBytes
    await this.#environment.transact(() => rewriteChunks(this.#tables.chunks, conv, payloads), bytes)
  }

  /** Journal files are not used again, and go as soon as all their records are in the tables. */
  async scrub(): Promise<void> {
    await this.#inTurn(async () => this.#journal.retire())
    while (this.#journal.hasRetired) {
      const settled = await this.#inTurn(async () => (this.#recent.isEmpty && this.#owed.length === 0 ? this.#journal.number : undefined))
      if (settled === undefined) await this.#settleNow()
      else {
        await this.#environment.commit(() => putReleased(this.#tables.journal, settled))
        this.#journal.release(settled)
      }
    }
  }

  /** All that was appended until now, or the generation before it. */
  async #settleNow(): Promise<void> {
    if (this.#recent.turn(0)) this.#journal.turn()
    const { settling } = this.#recent
    await this.#settle()
    if (settling !== undefined && this.#recent.settling === settling)
      throw new StoreUnavailable('the journal cannot be moved into the tables now')
  }

  /** Notes where the journal ends, before the store is closed: who finds less of it knows that it was cut. */
  async noteEnd(): Promise<void> {
    await this.#last
    await this.#environment.commit(() => putDurable(this.#tables.journal, this.#journal.number))
  }

  /** Resolves when what is under way is over. */
  async close(): Promise<void> {
    await this.#last
    await this.#settling
    this.#journal.close()
  }

  #head(conv: ConversationId): { head: number; ts: number } {
    const last = this.#recent.last(conv)
    return last === undefined ? this.#settledHead(conv) : { head: last.lastSeq, ts: last.lastTs }
  }

  #settledHead(conv: ConversationId): { head: number; ts: number } {
    const known = this.#settledHeads.get(conv)
    if (known !== undefined) return known
    const head = chunkHead(this.#tables.chunks, conv)
    if (this.#settledHeads.size >= settledHeadsMax) this.#settledHeads.clear()
    this.#settledHeads.set(conv, head)
    return head
  }

  async head(conv: ConversationId): Promise<number> {
    this.#environment.assertOpen()
    return this.#head(conv).head
  }

  async readEach(places: readonly LogPlace[]): Promise<(LogEntry | undefined)[]> {
    return Promise.all(places.map(async ({ conv, seq }) => (await this.read(conv, seq, seq, 1))[0]))
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
    if (id.length > idLengthMax || !this.#known.mayHave(conv, from, id)) return undefined
    const recent = this.#recent.findSent(conv, from, id)
    if (recent !== undefined) return recent
    const value = this.#tables.sent.get(sentKey(conv, from, id))
    return value === undefined ? undefined : decodeSeq(value)
  }

  /** What is stored of a conversation that is not long, as hashes. */
  #idsOf(conv: ConversationId): number[] | undefined {
    if (this.#settledHead(conv).head > readIdsMax) return undefined
    const hashes: number[] = []
    const { start, end } = plainRange(conv)
    for (const key of this.#tables.sent.getKeys({ start, end })) hashes.push(hashOfKey(key, start.length))
    for (const { senders, ids } of this.#recent.of(conv)) {
      for (let at = 0; at < ids.length; at++) hashes.push(hashOfId(senders[at] as string, ids[at] as string))
    }
    return hashes
  }

  async findRetransmit(session: string, packetId: number): Promise<StoredRetransmit | undefined> {
    this.#environment.assertOpen()
    const found = this.#tables.retransmits.get(retransmitKey(session, packetId))
    return found === undefined ? undefined : storedRetransmit(session, found)
  }

  async *retransmits(): AsyncIterable<StoredRetransmit> {
    for await (const { key, value } of rowsOf(this.#environment, this.#tables.retransmits, { start: lowest })) {
      yield storedRetransmit(textsOf(key)[0] as string, value)
    }
  }

  async *conversations(after: ConversationId = ''): AsyncIterable<ConversationId> {
    for (let last = after; ; ) {
      this.#environment.assertOpen()
      const page = this.#namesBehind(last)
      yield* page
      if (page.length < pageMax) return
      last = page.at(-1) as ConversationId
    }
  }

  #namesBehind(after: ConversationId): ConversationId[] {
    const names = new Set<ConversationId>()
    for (let at = after; names.size < pageMax; ) {
      const [key] = this.#tables.chunks.getKeys({ start: chunksEnd(at), limit: 1 })
      if (key === undefined) break
      at = textsOf(key)[0] as ConversationId
      names.add(at)
    }
    for (const name of this.#recent.names()) if (name > after) names.add(name)
    return [...names].sort().slice(0, pageMax)
  }

  async read(conv: ConversationId, from: number, to: number, limit: number, bytesMax = readBytesMax): Promise<LogEntry[]> {
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

/** A record that is durable and not visible yet. */
interface Owed {
  number: number
  deeds: readonly Deed[]
  done(): void
}

/** A settled byte may need so many on the disk, for index pages and copies. */
const settleGrowth = 3

/** Sends without id that are remembered per session: as many as a client may have under way. */
const retransmitsMax = 256
const retransmitKey = (session: string, packetId: number): Buffer => plainKey(session, String(packetId % retransmitsMax))
const storedRetransmit = (session: string, value: Buffer): StoredRetransmit => ({ session, epoch: 0, ...JSON.parse(value.toString()) })

/** One large append does not keep its memory for ever. */
const keptOrNew = (arena: ByteWriter): ByteWriter => (arena.bytes.length > arenaKeptBytesMax ? new ByteWriter(arenaBytesMin) : arena)

const done = (): void => undefined

function ignoreFault(error: unknown): void {
  if (!(error instanceof StoreUnavailable)) throw error
}
