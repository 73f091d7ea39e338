/**
 * Conversations: their logs are appended to the target's in order, from its head on, as nodes do it; so a copy that was cut off goes on
 * where it was, and seqs, times and ids stay what they are. With the last entries come the group, its members and what sessions may send
 * again. Compared by head, by a digest of all entries, and by group.
 */
import { createHash } from 'node:crypto'
import { OperatorError } from '../operator-error.js'
import type { ConversationAppend, Effect, GroupRecord, LogEntry, MemberRecord, Store, StoredRetransmit } from '../store/store.js'
import { type ConversationId, groupOf, isGroup, usersOf } from '../topics.js'

/** Of one conversation in one append, which MongoDB keeps as one document of at most 16 MiB. */
const segmentEntriesMax = 256
const segmentBytesMax = 256 * 1024
/** Of all conversations in one append. */
const appendBytesMax = 8 * 1024 * 1024

export interface Place {
  conv: ConversationId
  /** Head of the source. */
  head: number
}

/** By conversation. */
export type Retransmits = ReadonlyMap<ConversationId, readonly StoredRetransmit[]>

export async function placesOf({ log }: Store, convs: readonly ConversationId[]): Promise<Place[]> {
  const heads = await log.heads(convs)
  return convs.map((conv, at) => ({ conv, head: heads[at]?.head ?? 0 }))
}

/** Brings these conversations to where the source has them; returns the entries written. */
export async function copyConversations(
  source: Store,
  target: Store,
  convs: readonly ConversationId[],
  retransmits: Retransmits,
): Promise<number> {
  const places = await placesOf(source, convs)
  const reached = new Map((await placesOf(target, convs)).map(({ conv, head }) => [conv, head]))
  const ahead = places.find(({ conv, head }) => (reached.get(conv) ?? 0) > head)
  if (ahead !== undefined) throw new OperatorError(`the target has more of ${ahead.conv} than the source: somebody writes to it`)
  let written = 0
  for (;;) {
    const batch: ConversationAppend[] = []
    let bytes = 0
    for (const { conv, head } of places) {
      const from = reached.get(conv) ?? 0
      if (from === head || bytes >= appendBytesMax) continue
      const append = await nextAppend(source, conv, from, head, retransmits.get(conv) ?? [])
      batch.push(append)
      bytes += bytesOf(append.entries)
    }
    if (batch.length === 0) break
    const [lost] = await target.log.append(batch)
    if (lost !== undefined) throw new OperatorError(`somebody else writes to ${lost} in the target: stop every server that uses it`)
    for (const { conv, head, entries } of batch) reached.set(conv, head + entries.length)
    written += batch.reduce((sum, { entries }) => sum + entries.length, 0)
  }
  await copyPositions(source, target, convs)
  return written
}

const bytesOf = (entries: readonly LogEntry[]): number => entries.reduce((sum, { payload }) => sum + payload.length, 0)

async function nextAppend(
  source: Store,
  conv: ConversationId,
  from: number,
  head: number,
  retransmits: readonly StoredRetransmit[],
): Promise<ConversationAppend> {
  const entries = await source.log.read(conv, from + 1, head, segmentEntriesMax, segmentBytesMax)
  const last = from + entries.length
  if (entries.length === 0) throw new OperatorError(`the data directory has no entry ${from + 1} of ${conv}: restore it from a backup`)
  return {
    conv,
    head: from,
    entries,
    effects: last === head ? await effectsOf(source, conv) : [],
    retransmits: retransmits
      .filter(({ seq }) => seq > from && seq <= last)
      // Before all that the device sends from now on.
      .map(({ session, packetId, digest, seq }) => ({ session, packetId, digest, epoch: 0, order: 0, seq })),
  }
}

/** What all entries of a group have come to. */
async function effectsOf({ directory }: Store, conv: ConversationId): Promise<Effect[]> {
  if (!isGroup(conv)) return []
  const group = groupOf(conv)
  const record = await directory.group(group)
  const members = await directory.members(group)
  return [
    ...(record === undefined ? [] : [{ kind: 'group', record } as const]),
    ...members.map((member) => ({ kind: 'member', group, record: member }) as const),
  ]
}

async function copyPositions(source: Store, target: Store, convs: readonly ConversationId[]): Promise<void> {
  for (const conv of convs) {
    const positions: { user: string; conv: ConversationId; seq: number }[] = []
    for (const user of await participantsOf(source, conv)) {
      const seq = (await source.directory.conversation(user, conv))?.read ?? 0
      if (seq > 0) positions.push({ user, conv, seq })
    }
    await target.directory.setRead(positions)
  }
}

const participantsOf = async ({ directory }: Store, conv: ConversationId): Promise<string[]> =>
  isGroup(conv) ? (await directory.members(groupOf(conv))).map(({ user }) => user) : usersOf(conv)

/** Of every field of every entry up to `head`. */
export async function digestOf({ log }: Store, conv: ConversationId, head: number): Promise<string> {
  const hash = createHash('sha256')
  for (let from = 1; from <= head; ) {
    const entries = await log.read(conv, from, head, segmentEntriesMax, appendBytesMax)
    if (entries.length === 0) return `no entry ${from}`
    for (const { seq, ts, from: sender, device, id, payload } of entries) {
      hash.update(JSON.stringify([seq, ts, sender, device, id, payload.length])).update(payload)
    }
    from += entries.length
  }
  return hash.digest('base64')
}

/** A group with its members in one order; undefined for a direct conversation. */
export async function groupAsIs(
  { directory }: Store,
  conv: ConversationId,
): Promise<{ record: GroupRecord | undefined; members: object[] } | undefined> {
  if (!isGroup(conv)) return undefined
  const members = (await directory.members(groupOf(conv))).sort((a, b) => (a.user < b.user ? -1 : 1))
  return { record: await directory.group(groupOf(conv)), members: members.map(inFull) }
}

/** 0 and undefined mean the same. */
const inFull = ({ user, role, spans, mutedUntilTs = 0 }: MemberRecord): object => ({ user, role, spans, mutedUntilTs })
