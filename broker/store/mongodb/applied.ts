/**
 * Brings the derived collections to where the log is: a segment is applied by whoever wrote it, and again by whoever finds one that
 * nobody applied, because its writer died in between. Applying is idempotent and in any order: a record says up to which entry it
 * is right and never goes back. `conversations.head` is moved last; so all up to it is applied.
 */
import type { ConversationId } from '../../topics.js'
import { groupConversation, isGroup, usersOf } from '../../topics.js'
import { type ConversationDocument, fieldOf, type MemberDocument, pairId, type SegmentDocument, segmentId } from './collections.js'
import { encodeLastSend, retransmitId } from './last-sends.js'
import type { MongodbServer } from './server.js'

export interface Position {
  head: number
  ts: number
}

export class Applied {
  readonly #server: MongodbServer

  constructor(server: MongodbServer) {
    this.#server = server
  }

  /** What was derived of each conversation, with what `sender` has sent and nobody else. Those without entries are left out. */
  states(convs: readonly ConversationId[], sender?: string): Promise<Map<ConversationId, ConversationDocument>> {
    const projection = { head: 1, ts: 1, ...(sender !== undefined && { [`sent.${fieldOf(sender)}`]: 1 }) }
    return this.#server.findNamed(this.#server.collections.conversations, convs, projection)
  }

  /** The same, after all of its log was applied. */
  async upToDate(convs: readonly ConversationId[], sender?: string): Promise<Map<ConversationId, ConversationDocument>> {
    const { messages } = this.#server.collections
    const found = await this.states(convs, sender)
    const next = new Map(convs.map((conv) => [segmentId(conv, found.get(conv)?.head ?? 0), conv]))
    const unapplied = [...(await this.#server.findNamed(messages, [...next.keys()])).values()]
    if (unapplied.length === 0) return found
    const behind = unapplied.map(({ conv }) => conv)
    // Mostly one of each, which its writer is about to apply itself.
    for (let segments = unapplied; segments.length > 0; ) {
      await this.apply(segments)
      const names = segments.map(({ conv, last }) => segmentId(conv, last))
      segments = [...(await this.#server.findNamed(messages, names)).values()]
    }
    for (const [conv, document] of await this.states(behind, sender)) found.set(conv, document)
    return found
  }

  /** At most one segment of each conversation. */
  async apply(segments: readonly SegmentDocument[]): Promise<void> {
    await Promise.all([this.#putMembers(segments), this.#putGroups(segments), this.#putRetransmits(segments)])
    const updates = segments.map((segment) => ({
      updateOne: { filter: { _id: segment.conv }, update: { $max: advance(segment) }, upsert: true },
    }))
    await this.#server.runUpsert(() => this.#server.bulk(this.#server.collections.conversations, updates))
  }

  async #putMembers(segments: readonly SegmentDocument[]): Promise<void> {
    const { members } = this.#server.collections
    const documents = [...new Map(segments.flatMap(membersOf).map((document) => [document._id, document])).values()]
    if (documents.length === 0) return
    const known = (await this.#server.insertNew(members, documents)).map((index) => documents[index] as MemberDocument)
    if (known.length === 0) return
    const updates = known.map(({ _id, at, role, spans, mutedUntilTs }) => ({
      updateOne: {
        filter: { _id, at: { $lt: at } },
        update: { $set: { at, role: role ?? null, mutedUntilTs: mutedUntilTs ?? null, ...(spans && { spans }) } },
      },
    }))
    await this.#server.run(() => this.#server.bulk(members, updates))
  }

  async #putGroups(segments: readonly SegmentDocument[]): Promise<void> {
    const { groups } = this.#server.collections
    for (const { effects = [], last: at } of segments) {
      for (const effect of effects) {
        if (effect.kind !== 'group') continue
        const { record } = effect
        await this.#server.runUnlessThere(() => groups.insertOne({ _id: record.group, at: 0, record }))
        await this.#server.run(() => groups.updateOne({ _id: record.group, at: { $lte: at } }, { $set: { at, record } }))
      }
    }
  }

  async #putRetransmits(segments: readonly SegmentDocument[]): Promise<void> {
    const updates = segments.flatMap(({ conv, entries, after, retransmits = [] }) =>
      retransmits.map((retransmit) => {
        const { session, packetId, seq } = retransmit
        const last = encodeLastSend(retransmit, conv, entries[seq - after - 1]?.ts ?? 0)
        return {
          updateOne: { filter: { _id: retransmitId(session, packetId) }, update: { $set: { session }, $max: { last } }, upsert: true },
        }
      }),
    )
    if (updates.length > 0) await this.#server.runUpsert(() => this.#server.bulk(this.#server.collections.retransmits, updates))
  }
}

function advance({ last, ts, entries }: SegmentDocument): Record<string, number> {
  const fields: Record<string, number> = { head: last, ts }
  for (const { from, seq } of entries) if (from !== '') fields[`sent.${fieldOf(from)}`] = seq
  return fields
}

/** Members that the segment makes or changes; the last effect counts. */
function membersOf({ conv, after, last: at, effects = [] }: SegmentDocument): MemberDocument[] {
  const found: MemberDocument[] = []
  if (after === 0 && !isGroup(conv)) for (const user of usersOf(conv)) found.push({ _id: pairId(conv, user), conv, user, at, read: 0 })
  for (const effect of effects) {
    if (effect.kind !== 'member') continue
    const { user, role, spans, mutedUntilTs = null } = effect.record
    const name = groupConversation(effect.group)
    found.push({ _id: pairId(name, user), conv: name, user, at, role: role ?? null, spans, mutedUntilTs, read: 0 })
  }
  return found
}
