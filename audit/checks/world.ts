/**
 * What all checks look things up in: the log as it could be read back, who was a member when, and which sends an entry comes
 * from. Made from the history alone.
 */
import { type ConversationId, isGroup, usersOf } from '../../broker/topics.js'
import { isFuzzUser } from '../cast.js'
import type { History, SendRecord } from '../history.js'

export interface Entry {
  seq: number
  ts: number
  from: string
  id: string
  type: string
  body: unknown
  /** The sends that it can come from; none for what the server wrote. */
  sends: readonly SendRecord[]
}

export interface Span {
  from: number
  to: number
}

export interface World {
  /** By seq; [0] is always undefined, and a place is undefined where nobody could read an entry. */
  log: Map<ConversationId, (Entry | undefined)[]>
  spans: Map<ConversationId, Map<string, Span[]>>
  conversationsOf(user: string): readonly ConversationId[]
  mayRead(conv: ConversationId, user: string, seq: number): boolean
  /** When an entry can have come into being at the earliest; 0 for what the server wrote. */
  sentAt(conv: ConversationId, seq: number): number
  /** The latest of all entries up to this one. */
  sentUpTo(conv: ConversationId, seq: number): number
  /** Was in the group from its beginning to its end, so that nothing of his is ever refused. */
  wasAlwaysIn(conv: ConversationId, user: string): boolean
  /** At some time in the run. */
  wasBlocked(by: string, user: string): boolean
  wasMuted(conv: ConversationId, user: string): boolean
  /** The session must get it: its user may see it, and no session of this name has sent it. */
  isOwed(conv: ConversationId, seq: number, user: string, device: string): boolean
}

/** The name of a text message is the first word of its body; that of what speaks of a message is its id. */
export const nameOf = ({ type, id, body }: Pick<Entry, 'type' | 'id' | 'body'>): string =>
  type === 'text' ? (String(body).split(' ', 1)[0] as string) : id

const sendKey = (conv: ConversationId, user: string, name: string): string => `${conv} ${user} ${name}`
const none: readonly never[] = []

export function createWorld(history: History): World {
  const sends = new Map<string, SendRecord[]>()
  for (const send of history.sends) {
    const key = sendKey(send.conv, send.user, send.name)
    const same = sends.get(key)
    if (same === undefined) sends.set(key, [send])
    else same.push(send)
  }
  const log = new Map<ConversationId, (Entry | undefined)[]>()
  for (const [conv, entries] of readableOf(history)) {
    log.set(
      conv,
      Array.from(entries, (raw) => (raw === undefined ? undefined : entryOf(conv, raw, sends))),
    )
  }
  const times = new Map([...log].map(([conv, entries]) => [conv, timesOf(entries)] as const))
  const spans = new Map([...log].filter(([conv]) => isGroup(conv)).map(([conv, entries]) => [conv, spansOf(entries)] as const))
  const blocked = new Set(history.blocks.filter(({ isOn }) => isOn).map(({ user, peer }) => `${user} ${peer}`))
  const world: World = {
    log,
    spans,
    conversationsOf: createIndex(log, spans),
    mayRead(conv, user, seq) {
      if (!isGroup(conv)) return usersOf(conv).includes(user)
      return (
        spans
          .get(conv)
          ?.get(user)
          ?.some(({ from, to }) => from <= seq && seq <= to) ?? false
      )
    },
    sentAt: (conv, seq) => times.get(conv)?.at[seq] ?? 0,
    sentUpTo: (conv, seq) => times.get(conv)?.upTo[seq] ?? 0,
    wasAlwaysIn(conv, user) {
      if (!isGroup(conv)) return usersOf(conv).includes(user)
      const [only, ...more] = spans.get(conv)?.get(user) ?? []
      return only?.from === 1 && only.to === Number.POSITIVE_INFINITY && more.length === 0
    },
    wasBlocked: (by, user) => blocked.has(`${by} ${user}`),
    wasMuted: (conv, user) =>
      log.get(conv)?.some((entry) => {
        const { event, user: who } = (entry?.type === 'system' ? entry.body : {}) as { event?: string; user?: string }
        return event === 'muted' && who === user
      }) ?? false,
    isOwed(conv, seq, user, device) {
      const entry = log.get(conv)?.[seq]
      if (entry === undefined || !world.mayRead(conv, user, seq)) return false
      return !entry.sends.some((send) => send.user === user && send.device === device)
    },
  }
  return world
}

/** Per conversation what was read back, by seq. What the fuzzer says is nobody's business. */
function readableOf({ reads, messages }: History): Map<ConversationId, (string | undefined)[]> {
  const readable = new Map<ConversationId, (string | undefined)[]>()
  for (const { conv, runs, by } of reads) {
    // What is shown in the middle of a run must still be there after it.
    if (by === 'peek') continue
    if (!isGroup(conv) && usersOf(conv).some(isFuzzUser)) continue
    const entries = readable.get(conv) ?? []
    readable.set(conv, entries)
    for (const [from, to] of runs) for (let seq = from; seq <= to; seq++) entries[seq] ??= messages.get(conv)?.get(seq)
  }
  return readable
}

function entryOf(conv: ConversationId, raw: string, sends: ReadonlyMap<string, SendRecord[]>): Entry {
  const { seq, ts, from, id, type, body } = JSON.parse(raw) as Entry
  const isServers = type === 'system'
  return { seq, ts, from, id, type, body, sends: isServers ? none : (sends.get(sendKey(conv, from, nameOf({ type, id, body }))) ?? none) }
}

function timesOf(entries: readonly (Entry | undefined)[]): { at: number[]; upTo: number[] } {
  let latest = 0
  const at = entries.map((entry) => (entry === undefined || entry.sends.length === 0 ? 0 : Math.min(...entry.sends.map((send) => send.at))))
  const upTo = at.map((time) => {
    latest = Math.max(latest, time)
    return latest
  })
  return { at, upTo }
}

/** Who was in the group at which seq, by its own system entries; the entry that lets out is seen by who goes. */
function spansOf(entries: readonly (Entry | undefined)[]): Map<string, Span[]> {
  const spans = new Map<string, Span[]>()
  for (const entry of entries) {
    if (entry?.type !== 'system') continue
    const { event, users = [] } = entry.body as { event: string; users?: string[] }
    for (const user of event === 'dissolved' ? [...spans.keys()] : users) {
      const own = spans.get(user) ?? []
      spans.set(user, own)
      const last = own.at(-1)
      if (event === 'created' || event === 'added') own.push({ from: entry.seq, to: Number.POSITIVE_INFINITY })
      else if (last?.to === Number.POSITIVE_INFINITY) last.to = entry.seq
    }
  }
  return spans
}

function createIndex(log: World['log'], spans: World['spans']): (user: string) => readonly ConversationId[] {
  const index = new Map<string, ConversationId[]>()
  for (const conv of log.keys()) {
    const users = isGroup(conv) ? [...(spans.get(conv)?.keys() ?? [])] : new Set(usersOf(conv))
    for (const user of users) {
      const own = index.get(user)
      if (own === undefined) index.set(user, [conv])
      else own.push(conv)
    }
  }
  return (user) => index.get(user) ?? none
}
