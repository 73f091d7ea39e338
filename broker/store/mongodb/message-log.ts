/**
 * The log on MongoDB, without transactions. What one append writes of a conversation is one document behind a known end of its log, under
 * a name that only one writer can take: so it is written whole or not at all, the log has no gap, and a writer that was too late is
 * refused. All conversations of a batch go in one command, and what is derived of them in one or two more.
 */
import { Binary } from 'mongodb'
import type { ConversationId } from '../../topics.js'
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
import type { Applied } from './applied.js'
import { decodeEntry, decodeId, encodeEntry, encodeId, type SegmentDocument, segmentId } from './collections.js'
import { FreshIds } from './fresh-ids.js'
import { decodeLastSend, retransmitId } from './last-sends.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'

const pageMax = 100
/** Where only names are quick: so many are tried for a segment that holds an entry. */
const namesMax = 16
/** Of a document, which MongoDB bounds at 16 MiB. */
const segmentBytesMax = 15 * 1024 * 1024
/** About what an entry takes beside its payload. */
const entryBytes = 600
/** Ends of logs that this node knows. */
const endsMax = 200_000

export class MongodbMessageLog implements MessageLog {
  readonly #server: MongodbServer
  readonly #applied: Applied
  /** Where a segment ends for certain; perhaps not the last one any more. */
  readonly #ends = new Map<ConversationId, number>()
  readonly #fresh = new FreshIds()

  constructor(server: MongodbServer, applied: Applied) {
    this.#server = server
    this.#applied = applied
  }

  async append(batch: readonly ConversationAppend[]): Promise<ConversationId[]> {
    const filled = batch.filter(({ entries }) => entries.length > 0)
    const unknown = batch.filter(({ conv, head, entries }) => entries.length === 0 || (head > 0 && this.#ends.get(conv) !== head))
    const ends = await this.#applied.upToDate(unknown.map(({ conv }) => conv))
    // One that is behind what others wrote may rely on fresh ids that do not know of it.
    const isLate = ({ conv, head }: ConversationAppend): boolean => (ends.get(conv)?.head ?? 0) !== head || this.#fresh.knows(conv)
    const late = new Set(unknown.filter(isLate).map(({ conv }) => conv))
    const accepted = filled.filter(({ conv }) => !late.has(conv))
    const segments = accepted.map(segmentOf)
    for (const conv of await this.#insert(segments)) late.add(conv)
    for (const conv of late) this.#forget(conv)
    const written = segments.filter(({ conv }) => !late.has(conv))
    try {
      if (written.length > 0) await this.#applied.apply(written)
    } catch (error) {
      for (const { conv } of written) this.#forget(conv)
      throw error
    }
    for (const { conv, head, entries } of accepted) {
      if (late.has(conv)) continue
      this.#ends.delete(conv)
      this.#ends.set(conv, head + entries.length)
      this.#fresh.add(conv, head, entries)
    }
    for (const oldest of this.#ends.keys()) {
      if (this.#ends.size <= endsMax) break
      this.#ends.delete(oldest)
    }
    return batch.map(({ conv }) => conv).filter((conv) => late.has(conv))
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
    return (await this.#applied.upToDate([conv])).get(conv)?.head ?? 0
  }

  async heads(convs: readonly ConversationId[]): Promise<{ head: number; ts: number }[]> {
    const states = await this.#applied.upToDate([...new Set(convs)])
    return convs.map((conv) => ({ head: states.get(conv)?.head ?? 0, ts: states.get(conv)?.ts ?? 0 }))
  }

  async findSent(conv: ConversationId, from: string, id: string): Promise<number | undefined> {
    return (await this.findSentAll([{ conv, from, id }]))[0]
  }

  async findSentAll(keys: readonly SentKey[]): Promise<(number | undefined)[]> {
    const ids = new Map<ConversationId, Set<string>>()
    for (const { conv, from, id } of keys) {
      if (this.#fresh.isNew(conv, from, id)) continue
      const some = ids.get(conv)
      if (some === undefined) ids.set(conv, new Set([id]))
      else some.add(id)
    }
    if (ids.size === 0) return keys.map(() => undefined)
    const $or = [...ids].map(([conv, some]) => ({ conv, 'entries.id': { $in: [...some].map(encodeId) } }))
    const projection = { conv: 1, 'entries.seq': 1, 'entries.from': 1, 'entries.id': 1 }
    const segments = await this.#server.run(() => this.#server.collections.messages.find({ $or }, { projection }).toArray())
    const found = new Map<string, number>()
    for (const { conv, entries } of segments) {
      for (const { from, id, seq } of entries) found.set(`${conv} ${from} ${decodeId(id)}`, seq)
    }
    return keys.map(({ conv, from, id }) => found.get(`${conv} ${from} ${id}`))
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
    for await (const { after, entries } of this.#segments(conv, Math.max(from, 1))) {
      if (after >= to) return found
      for (const document of entries) {
        if (document.seq < from || document.seq > to) continue
        const entry = decodeEntry(document)
        found.push(entry)
        bytes += entry.payload.length
        if (found.length >= limit || bytes >= Math.max(bytesMax, 1)) return found
      }
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

  async *#segments(conv: ConversationId, from: number): AsyncGenerator<SegmentDocument> {
    const { messages } = this.#server.collections
    if (!this.#server.hasIndexes) {
      // From name to name, where a read by anything else goes over all that is stored.
      let next = await this.#segmentWith(conv, from)
      while (next) {
        yield next
        const { last } = next
        next = await this.#server.run(() => messages.findOne({ _id: segmentId(conv, last) }))
      }
      if (next === null) return
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
