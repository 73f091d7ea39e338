/**
 * The log on MongoDB, without transactions. What one append writes of a conversation is one document behind a known end of its log, under
 * a name that only one writer can take: so it is written whole or not at all, the log has no gap, and a writer that was too late is
 * refused. All conversations of a batch go in one command, and what is derived of them in one or two more.
 */
import { Binary, type Filter } from 'mongodb'
import type { ConversationId } from '../../topics.js'
import {
  type ConversationAppend,
  type HeardEntry,
  type LogEntry,
  type LogPlace,
  type MessageLog,
  readBytesMax,
  type SentKey,
  type StoredRetransmit,
  StoreUnavailable,
} from '../store.js'
import type { Applied } from './applied.js'
import { decodeEntry, encodeEntry, encodeId, type SegmentDocument, segmentId, sentIdOf } from './collections.js'
import { FreshIds } from './fresh-ids.js'
import { decodeLastSend, retransmitId } from './last-sends.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'
import { Together } from './together.js'

const pageMax = 100
/** Where only names are quick: so many are tried for a segment that holds an entry. */
const namesMax = 16
/** Where a read begins with a segment, so many are fetched by their names before the rest is asked for at once. */
const walkMax = 4
/** Of a document, which MongoDB bounds at 16 MiB. */
const segmentBytesMax = 15 * 1024 * 1024
/** About what an entry takes beside its payload. */
const entryBytes = 600
/** Entries whose ids are read at once. */
const idsReadMax = 8_192
/** Conversations of which something is kept. */
const keptMax = 200_000

export class MongodbMessageLog implements MessageLog {
  readonly #server: MongodbServer
  readonly #applied: Applied
  readonly #headsOf = new Together((convs: readonly ConversationId[]) => this.#readHeads(convs))
  /** Where a segment ends for certain; perhaps not the last one any more. */
  readonly #ends = new Map<ConversationId, number>()
  readonly #fresh = new FreshIds()
  /** Up to which entry ids were known when some of them were said to be new; until the append that relies on it. */
  readonly #toldAt = new Map<ConversationId, number>()

  constructor(server: MongodbServer, applied: Applied) {
    this.#server = server
    this.#applied = applied
  }

  async append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    const filled = batch.filter(({ entries }) => entries.length > 0)
    const unsure = batch.filter(({ conv, head, entries }) => entries.length === 0 || !this.#isSure(conv, head))
    const late = new Set(await this.#lateOf(unsure))
    const accepted = filled.filter(({ conv }) => !late.has(conv))
    const segments = accepted.map(segmentOf)
    for (const { conv } of batch) this.#toldAt.delete(conv)
    for (const conv of await this.#insert(segments)) late.add(conv)
    const written = segments.filter(({ conv }) => !late.has(conv))
    try {
      if (written.length > 0) await this.#applied.apply(written)
    } catch (error) {
      for (const { conv } of written) this.#forget(conv)
      throw error
    }
    for (const { conv, head, entries } of accepted) {
      if (late.has(conv)) this.#fresh.lost(conv, head)
      else {
        if (head === 0 && this.#fresh.isUnknown(conv)) this.#fresh.begin(conv)
        this.#fresh.add(conv, head, entries)
        this.#endsAt(conv, head + entries.length)
      }
    }
    return batch.map(({ conv }) => conv).filter((conv) => late.has(conv))
  }

  /** The log ends there, or an append there loses; and what was told of ids was told of all up to there. It may be known better since. */
  #isSure(conv: ConversationId, head: number): boolean {
    return (head === 0 || this.#ends.get(conv) === head) && (this.#toldAt.get(conv) ?? head) === head
  }

  /** Those whose log has another head, or of whose ids too little was known. */
  async #lateOf(unsure: readonly ConversationAppend[]): Promise<ConversationId[]> {
    if (unsure.length === 0) return []
    const states = await this.#applied.upToDate(unsure.map(({ conv }) => conv))
    const late: ConversationId[] = []
    for (const { conv, head } of unsure) {
      const known = this.#fresh.headOf(conv)
      const end = states.get(conv)?.head ?? 0
      if (end === head && (this.#toldAt.get(conv) ?? head) === head) continue
      late.push(conv)
      if (known !== undefined && known < end) await this.#learnIds(conv, known, end)
    }
    return late
  }

  /** Of the entries behind `head`, up to `end`. */
  async #learnIds(conv: ConversationId, head: number, end: number): Promise<void> {
    let left = idsReadMax
    for await (const { after, last, entries } of this.#segments(conv, head + 1)) {
      left -= last - after
      if (left < 0) return this.#fresh.tooLong(conv)
      this.#fresh.add(conv, after, entries.map(sentIdOf))
      if (last >= end) return
    }
  }

  heard({ conv, entry, isEnd }: HeardEntry): void {
    this.#fresh.add(conv, entry.seq - 1, [entry])
    // Of conversations to which this node writes, or has tried to.
    if (isEnd && (this.#ends.has(conv) || this.#fresh.headOf(conv) !== undefined)) this.#endsAt(conv, entry.seq)
  }

  #endsAt(conv: ConversationId, seq: number): void {
    if (seq < (this.#ends.get(conv) ?? 0)) return
    this.#ends.delete(conv)
    this.#ends.set(conv, seq)
    for (const oldest of this.#ends.keys()) {
      if (this.#ends.size <= keptMax) return
      this.#ends.delete(oldest)
    }
  }

  /** Returns the conversations in which another writer was faster. */
  async #insert(segments: readonly SegmentDocument[]): Promise<ConversationId[]> {
    if (segments.length === 0) return []
    try {
      const lost = await this.#server.insertNew(this.#server.collections.messages, segments)
      return lost.map((index) => (segments[index] as SegmentDocument).conv)
    } catch (error) {
      // It may have been written all the same: whoever tries again has to look first.
      for (const { conv } of segments) this.#forget(conv)
      throw error
    }
  }

  #forget(conv: ConversationId): void {
    this.#ends.delete(conv)
    this.#fresh.forget(conv)
  }

  async head(conv: ConversationId): Promise<number> {
    return (await this.#headsOf.ask(conv)).head
  }

  async heads(convs: readonly ConversationId[]): Promise<{ head: number; ts: number }[]> {
    const [conv] = convs
    return conv !== undefined && convs.length === 1 ? [await this.#headsOf.ask(conv)] : this.#readHeads(convs)
  }

  async #readHeads(convs: readonly ConversationId[]): Promise<{ head: number; ts: number }[]> {
    const states = await this.#applied.upToDate([...new Set(convs)])
    for (const [conv, { head }] of states) this.#endsAt(conv, head)
    return convs.map((conv) => ({ head: states.get(conv)?.head ?? 0, ts: states.get(conv)?.ts ?? 0 }))
  }

  async findSent(conv: ConversationId, from: string, id: string): Promise<number | undefined> {
    return (await this.findSentAll([{ conv, from, id }]))[0]
  }

  async findSentAll(keys: readonly SentKey[]): Promise<(number | undefined)[]> {
    const unknown = new Set(keys.map(({ conv }) => conv).filter((conv) => this.#fresh.isUnknown(conv)))
    if (unknown.size > 0) await this.#readIds([...unknown])
    const ids = new Map<ConversationId, Set<string>>()
    for (const { conv, from, id } of keys) {
      if (this.#fresh.isNew(conv, from, id)) {
        this.#toldAt.set(conv, this.#fresh.headOf(conv) as number)
        continue
      }
      const some = ids.get(conv)
      if (some === undefined) ids.set(conv, new Set([id]))
      else some.add(id)
    }
    if (ids.size === 0) return keys.map(() => undefined)
    const $or = [...ids].map(([conv, some]) => ({ conv, 'entries.id': { $in: [...some].map(encodeId) } }))
    const found = new Map<string, number>()
    for (const { conv, entries } of await this.#idsOf({ $or })) {
      for (const entry of entries) {
        const { from, id } = sentIdOf(entry)
        found.set(`${conv} ${from} ${id}`, entry.seq)
      }
    }
    return keys.map(({ conv, from, id }) => found.get(`${conv} ${from} ${id}`))
  }

  /** All of those that are not long, together: what comes then is known to be new without a look. */
  async #readIds(convs: readonly ConversationId[]): Promise<void> {
    const { conversations } = this.#server.collections
    const unsure = convs.filter((conv) => !this.#ends.has(conv))
    const states = await this.#server.findNamed(conversations, unsure)
    const short: ConversationId[] = []
    let left = idsReadMax
    for (const conv of convs) {
      const head = this.#ends.get(conv) ?? states.get(conv)?.head ?? 0
      // What is told to be new is new only if an append at this head wins.
      if (head === 0) this.#fresh.begin(conv)
      else if (head > idsReadMax) this.#fresh.tooLong(conv)
      else if (head <= left) {
        short.push(conv)
        left -= head
      }
    }
    if (short.length === 0) return
    const segments = await this.#idsOf({ conv: { $in: short } })
    segments.sort((a, b) => a.after - b.after)
    for (const conv of short) if (this.#fresh.isUnknown(conv)) this.#fresh.begin(conv)
    for (const { conv, after, entries } of segments) this.#fresh.add(conv, after, entries.map(sentIdOf))
  }

  #idsOf(filter: Filter<SegmentDocument>): Promise<SegmentDocument[]> {
    const projection = { conv: 1, after: 1, 'entries.seq': 1, 'entries.from': 1, 'entries.id': 1 }
    return this.#server.run(() => this.#server.collections.messages.find(filter, { projection }).toArray())
  }

  async findRetransmit(session: string, packetId: number): Promise<StoredRetransmit | undefined> {
    const { retransmits } = this.#server.collections
    const found = await this.#server.run(() => retransmits.findOne({ _id: retransmitId(session, packetId) }))
    return found === null ? undefined : decodeLastSend(found)
  }

  async rewrite(conv: ConversationId, payloads: ReadonlyMap<number, Buffer>): Promise<void> {
    if (payloads.size === 0) return
    const last = Math.max(...payloads.keys())
    for await (const { _id, after, last: end } of this.#segments(conv, Math.min(last, ...payloads.keys()))) {
      if (after >= last) return
      const fields: Record<string, Binary | string> = {}
      for (let seq = after + 1; seq <= end; seq++) {
        const payload = payloads.get(seq)
        if (payload === undefined) continue
        fields[`entries.${seq - after - 1}.payload`] = new Binary(payload)
        fields[`entries.${seq - after - 1}.device`] = ''
      }
      if (Object.keys(fields).length === 0) continue
      await this.#server.run(() => this.#server.collections.messages.updateOne({ _id }, { $set: fields }))
    }
  }

  /** Documents are written anew at once; what the server keeps of old ones is its own matter. */
  async scrub(): Promise<void> {
    return undefined
  }

  async *retransmits(): AsyncIterable<StoredRetransmit> {
    for await (const document of inOrder(this.#server, this.#server.collections.retransmits)) yield decodeLastSend(document)
  }

  async *conversations(after: ConversationId = ''): AsyncIterable<ConversationId> {
    for await (const { _id } of inOrder(this.#server, this.#server.collections.conversations, { _id: 1 }, after)) yield _id
  }

  async read(conv: ConversationId, from: number, to: number, limit: number, bytesMax = readBytesMax): Promise<LogEntry[]> {
    const found: LogEntry[] = []
    if (from > to || to < 1 || limit < 1) return found
    let bytes = 0
    for await (const { after, last, entries } of this.#segments(conv, Math.max(from, 1))) {
      if (after >= to) return found
      for (const document of entries) {
        if (document.seq < from || document.seq > to) continue
        const entry = decodeEntry(document)
        found.push(entry)
        bytes += entry.payload.length
        if (found.length >= limit || bytes >= Math.max(bytesMax, 1)) return found
      }
      if (last >= to) return found
    }
    return found
  }

  async readEach(places: readonly LogPlace[]): Promise<(LogEntry | undefined)[]> {
    const { messages } = this.#server.collections
    const found = new Map<string, LogEntry>()
    const keyOf = ({ conv, seq }: LogPlace): string => `${conv} ${seq}`
    const wanted = new Set(places.map(keyOf))
    const take = ({ conv, entries }: SegmentDocument): void => {
      for (const document of entries) {
        const key = keyOf({ conv, seq: document.seq })
        if (wanted.has(key)) found.set(key, decodeEntry(document))
      }
    }
    // Most segments are named by the entry before the one that is asked for.
    const named = await this.#server.findNamed(messages, [...new Set(places.map(({ conv, seq }) => segmentId(conv, seq - 1)))])
    for (const segment of named.values()) take(segment)
    const left = places.filter((place) => !found.has(keyOf(place)))
    if (left.length === 0) return places.map((place) => found.get(keyOf(place)))
    if (this.#server.hasIndexes) {
      const $or = left.map(({ conv, seq }) => ({ conv, last: { $gte: seq }, after: { $lt: seq } }))
      for (const segment of await this.#server.run(() => messages.find({ $or }).toArray())) take(segment)
    } else {
      const read = await Promise.all(left.map(({ conv, seq }) => this.read(conv, seq, seq, 1)))
      for (const [index, [entry]] of read.entries()) if (entry !== undefined) found.set(keyOf(left[index] as LogPlace), entry)
    }
    return places.map((place) => found.get(keyOf(place)))
  }

  /** By the names that it can have; null: there is none, undefined: it begins too far back to be found so. */
  async #segmentWith(conv: ConversationId, seq: number): Promise<SegmentDocument | null | undefined> {
    const { messages } = this.#server.collections
    for (let after = seq - 1; after >= Math.max(0, seq - namesMax); after--) {
      const segment = await this.#server.run(() => messages.findOne({ _id: segmentId(conv, after) }))
      // One that ends before it is the last: whatever follows it would have been found on the way.
      if (segment !== null) return segment.last >= seq ? segment : null
    }
    return seq <= namesMax ? null : undefined
  }

  async *#segments(conv: ConversationId, start: number): AsyncGenerator<SegmentDocument> {
    const { messages } = this.#server.collections
    if (!this.#server.hasIndexes) {
      // From name to name, where a read by anything else goes over all that is stored.
      let next = await this.#segmentWith(conv, start)
      while (next) {
        yield next
        const { last } = next
        next = await this.#server.run(() => messages.findOne({ _id: segmentId(conv, last) }))
      }
      if (next === null) return
    }
    // Who follows the log mostly stands at the end of a segment, with few before him.
    let from = start
    for (let left = walkMax; this.#server.hasIndexes && left > 0; left--) {
      const _id = segmentId(conv, from - 1)
      const next = await this.#server.run(() => messages.findOne({ _id }))
      if (next === null && from > start) return
      if (next === null) break
      yield next
      from = next.last + 1
    }
    const cursor = messages.find({ conv, last: { $gte: from } }, { sort: { last: 1 }, batchSize: pageMax })
    try {
      for (;;) {
        const segment = await this.#server.run(() => cursor.next())
        if (segment === null) return
        yield segment
      }
    } finally {
      await cursor.close()
    }
  }
}

function segmentOf({ conv, head, entries, effects, retransmits }: ConversationAppend): SegmentDocument {
  const bytes = entries.reduce((sum, { payload }) => sum + payload.length + entryBytes, 0)
  if (bytes > segmentBytesMax) throw new StoreUnavailable(`${bytes} bytes at once are too much for one conversation`)
  const last = entries.at(-1) as LogEntry
  if (entries[0]?.seq !== head + 1 || last.seq !== head + entries.length)
    throw new Error(`the entries of ${conv} do not follow its head ${head}`)
  return {
    _id: segmentId(conv, head),
    conv,
    after: head,
    last: last.seq,
    ts: last.ts,
    entries: entries.map(encodeEntry),
    ...(effects.length > 0 && { effects }),
    ...(retransmits.length > 0 && { retransmits }),
  }
}
