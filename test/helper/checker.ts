/**
 * Judges a recorded history against the promises of topics.md: a pure function from what clients sent, received and could read,
 * and from the log as it stands on disk in the end, to a list of faults in words. Membership is taken from the `system`
 * entries of the log itself, not from what the server says of it. test/checker.test.ts shows that it fails on broken histories.
 */
import { type ConversationId, isGroup, peerOf, usersOf } from '../../broker/topics.js'

export interface Acknowledged {
  seq: number
  ts: number
  dup: boolean
}

/** One message that one session wanted to send, however often it went over the wire. */
export interface SendRecord {
  user: string
  device: string
  conv: ConversationId
  /** undefined: plain text. */
  id: string | undefined
  /** Unique, except that the same (user, conv, id) sent by two devices has the same. */
  body: string
  /** When it was first given to the client. */
  sentAt: number
  isPubacked: boolean
  acks: Acknowledged[]
  refusals: string[]
}

export interface Received {
  topic: string
  conv: ConversationId
  seq: number
  /** The payload as it came. */
  raw: string
  at: number
  /** The client has sent PUBACK for it. */
  isAcknowledged: boolean
}

export interface ConnectionRecord {
  user: string
  device: string
  clean: boolean
  connackAt: number | undefined
  readyAt: number | undefined
  /** undefined: it was live at the end, when everything had been delivered. */
  closedAt: number | undefined
  sessionPresent: boolean
  ready: { replayed: number; heads: Record<string, number>; truncated?: Record<string, [number, number]> } | undefined
  received: Received[]
}

/** One entry of the log on disk. */
export interface StoredEntry {
  seq: number
  ts: number
  from: string
  /** '' when no session sent it. */
  device: string
  id: string
  raw: string
}

/** All that one user was shown of one conversation, by one way of reading. */
export interface ReadRecord {
  user: string
  conv: ConversationId
  by: 'history' | 'sync'
  entries: { seq: number; raw: string }[]
}

export interface History {
  sends: SendRecord[]
  /** In the order of their connects per device. */
  connections: ConnectionRecord[]
  reads: ReadRecord[]
  log: Map<ConversationId, StoredEntry[]>
}

interface Body {
  type: string
  body: unknown
  from: string
}

interface Span {
  from: number
  to: number
}

const faultsMax = 50

/** Every broken promise, in words; at most 50. Empty: all are kept. */
export function check(history: History): string[] {
  const faults: string[] = []
  const world = createWorld(history)
  for (const part of [checkLog, checkSends, checkSenderOrder, checkReceived, checkDelivered, checkReady, checkReads]) {
    part(history, world, (fault) => {
      if (faults.length < faultsMax) faults.push(fault)
    })
  }
  return faults
}

type Report = (fault: string) => void

interface World {
  /** Send of an entry, by `conv from id`. */
  sends: Map<string, SendRecord[]>
  bodies: Map<StoredEntry, Body>
  spans: Map<ConversationId, Map<string, Span[]>>
}

const sendKey = (conv: string, from: string, id: string): string => `${conv} ${from} ${id}`

function createWorld({ sends, log }: History): World {
  const world: World = { sends: new Map(), bodies: new Map(), spans: new Map() }
  for (const [conv, entries] of log) {
    for (const entry of entries) world.bodies.set(entry, JSON.parse(entry.raw) as Body)
    if (isGroup(conv)) world.spans.set(conv, spansOf(entries, world))
  }
  for (const send of sends) {
    if (send.id === undefined) continue
    const key = sendKey(send.conv, send.user, send.id)
    const same = world.sends.get(key)
    if (same === undefined) world.sends.set(key, [send])
    else same.push(send)
  }
  return world
}

/** Who was in the group at which seq, by its own system entries; the entry that lets out is seen by who goes. */
function spansOf(entries: readonly StoredEntry[], { bodies }: World): Map<string, Span[]> {
  const spans = new Map<string, Span[]>()
  for (const entry of entries) {
    const { type, body } = bodies.get(entry) as Body
    if (type !== 'system') continue
    const { event, users = [] } = body as { event: string; users?: string[] }
    const affected = event === 'dissolved' ? [...spans.keys()] : users
    for (const user of affected) {
      const own = spans.get(user) ?? []
      const last = own.at(-1)
      if (event === 'created' || event === 'added') own.push({ from: entry.seq, to: Number.POSITIVE_INFINITY })
      else if (last !== undefined && last.to === Number.POSITIVE_INFINITY) last.to = entry.seq
      spans.set(user, own)
    }
  }
  return spans
}

function mayRead({ spans }: World, conv: ConversationId, user: string, seq: number): boolean {
  if (!isGroup(conv)) return usersOf(conv).includes(user)
  return (
    spans
      .get(conv)
      ?.get(user)
      ?.some(({ from, to }) => from <= seq && seq <= to) ?? false
  )
}

// --- promise 2 and 3: the log itself -------------------------------------------------------------------------------

function checkLog({ log }: History, _world: World, report: Report): void {
  for (const [conv, entries] of log) {
    const seen = new Map<string, number>()
    entries.forEach((entry, index) => {
      const { seq, from, id, ts, raw } = entry
      if (seq !== index + 1) report(`gap: ${conv} has ${seq} where ${index + 1} belongs`)
      if (!raw.startsWith(`{"seq":${seq},"ts":${ts},`)) report(`${conv} ${seq} holds a payload of another place: ${raw.slice(0, 60)}`)
      if (index > 0 && ts < (entries[index - 1] as StoredEntry).ts) report(`ts of ${conv} goes backwards at ${seq}`)
      const first = seen.get(`${from} ${id}`)
      if (first !== undefined) report(`stored twice: ${conv} ${id} of ${from} is ${first} and ${seq}`)
      seen.set(`${from} ${id}`, seq)
    })
  }
}

// --- promise 1 and 2: what was acknowledged ------------------------------------------------------------------------

function checkSends({ sends, log }: History, { bodies }: World, report: Report): void {
  const byBody = new Map<string, number[]>()
  const wasSent = new Set(sends.map(({ conv, user, body }) => sendKey(conv, user, body)))
  for (const [conv, entries] of log) {
    for (const entry of entries) {
      const { type, body } = bodies.get(entry) as Body
      if (type === 'system') continue
      const key = sendKey(conv, entry.from, String(body))
      if (!wasSent.has(key)) report(`invented: nobody sent ${conv} ${entry.seq} from ${entry.from}: ${String(body)}`)
      byBody.set(key, [...(byBody.get(key) ?? []), entry.seq])
    }
  }
  for (const send of sends) {
    const name = `${send.conv} ${send.id ?? '(plain)'} of ${send.user}/${send.device}`
    const stored = byBody.get(sendKey(send.conv, send.user, send.body)) ?? []
    if (stored.length > 1) report(`stored twice: ${name} is ${stored.join(' and ')}`)
    for (const { seq } of send.acks) {
      if (stored[0] === undefined) report(`lost: ${name} was acked as ${seq} and is not in the log`)
      else if (stored[0] !== seq) report(`false ack: ${name} was acked as ${seq} and is stored as ${stored[0]}`)
    }
    if (send.isPubacked && send.refusals.length === 0 && stored.length === 0 && !isGroup(send.conv))
      report(`lost: ${name} got a PUBACK and is not in the log`)
  }
}

/** What one session sent to one conversation stands in the log in that order. */
function checkSenderOrder({ sends, log }: History, world: World, report: Report): void {
  const { sends: byKey, bodies } = world
  const seqOf = new Map<string, number>()
  for (const [conv, entries] of log)
    for (const entry of entries) seqOf.set(sendKey(conv, entry.from, String(bodies.get(entry)?.body)), entry.seq)
  const last = new Map<string, { seq: number; id: string }>()
  for (const { user, device, conv, id, body } of sends) {
    if (id !== undefined && (byKey.get(sendKey(conv, user, id))?.length ?? 0) > 1) continue // The other device's copy may be first.
    const seq = seqOf.get(sendKey(conv, user, body))
    // What was refused to a user who was out may be sent again when he is in, behind what he sent meanwhile.
    if (seq === undefined || !wasAlwaysIn(world, conv, user)) continue
    const session = `${user}/${device} in ${conv}`
    const before = last.get(session)
    if (before !== undefined && seq < before.seq) report(`order: ${session} sent ${before.id} (${before.seq}) before ${body} (${seq})`)
    last.set(session, { seq, id: body })
  }
}

function wasAlwaysIn({ spans }: World, conv: ConversationId, user: string): boolean {
  if (!isGroup(conv)) return true
  const [only, ...more] = spans.get(conv)?.get(user) ?? []
  return only !== undefined && more.length === 0 && only.from === 1 && only.to === Number.POSITIVE_INFINITY
}

// --- promise 4 and 5: what was received ----------------------------------------------------------------------------

/** On each connection: only what may be seen, exactly as stored, in order, without a gap. */
function checkReceived({ connections, log }: History, world: World, report: Report): void {
  for (const connection of connections) {
    const { user, device } = connection
    const last = new Map<ConversationId, number>()
    for (const { topic, conv, seq, raw } of connection.received) {
      const name = `${conv} ${seq} to ${user}/${device}`
      if (topic !== (isGroup(conv) ? `${conv}/msg` : `u/${user}/msg`)) report(`wrong topic: ${name} came on ${topic}`)
      if (!mayRead(world, conv, user, seq)) report(`leak: ${name}, who may not see it`)
      const entry = log.get(conv)?.[seq - 1]
      if (entry === undefined) report(`invented: ${name} is not in the log`)
      else if (entry.raw !== raw) report(`changed: ${name} differs from the log: ${raw.slice(0, 80)}`)
      const before = last.get(conv)
      if (before !== undefined && seq <= before) report(`order: ${name} came after ${before}`)
      if (before !== undefined) reportGap(connection, conv, before, seq, world, log, report)
      last.set(conv, seq)
    }
  }
}

function reportGap(
  { user, device }: ConnectionRecord,
  conv: ConversationId,
  before: number,
  seq: number,
  world: World,
  log: History['log'],
  report: Report,
): void {
  for (let missing = before + 1; missing < seq; missing++) {
    if (!isOwed(world, log, conv, missing, user, device)) continue
    report(`gap: ${user}/${device} got ${conv} ${before}, then ${seq}, without ${missing}`)
    return
  }
}

/** The session must get it: its user may see it and it did not send it itself. */
function isOwed(world: World, log: History['log'], conv: ConversationId, seq: number, user: string, device: string): boolean {
  const entry = log.get(conv)?.[seq - 1]
  if (entry === undefined || !mayRead(world, conv, user, seq)) return false
  return !(entry.from === user && entry.device === device)
}

const convsOf = (log: History['log'], world: World, user: string): ConversationId[] =>
  [...log.keys()].filter((conv) => (isGroup(conv) ? world.spans.get(conv)?.has(user) : usersOf(conv).includes(user)))

/** When the entry can have come into being at the earliest; 0 when it is not known. */
function sentAt({ sends, bodies }: World, all: Map<string, number>, conv: ConversationId, entry: StoredEntry): number {
  const byId = sends.get(sendKey(conv, entry.from, entry.id))
  if (byId !== undefined) return Math.min(...byId.map((send) => send.sentAt))
  return all.get(sendKey(conv, entry.from, String(bodies.get(entry)?.body))) ?? 0
}

/** Every live session and every persistent one that came back has got all that is owed to it. */
function checkDelivered(history: History, world: World, report: Report): void {
  const { connections, log, sends } = history
  const plainSentAt = new Map(sends.map((send) => [sendKey(send.conv, send.user, send.body), send.sentAt]))
  for (const [device, own] of groupBySession(connections)) {
    const first = own[0] as ConnectionRecord
    const last = own.at(-1) as ConnectionRecord
    if (last.closedAt !== undefined || last.readyAt === undefined) continue // It did not come back, so nothing was due.
    if (!first.clean) checkPersistent(own, device, report)
    // A clean session is owed what was sent while it was live.
    const since = first.clean ? last.readyAt : (first.readyAt ?? last.readyAt)
    const got = first.clean ? [last] : own
    for (const conv of convsOf(log, world, first.user)) {
      const seqs = new Set(got.flatMap(({ received }) => received.filter((each) => each.conv === conv).map(({ seq }) => seq)))
      for (const entry of log.get(conv) ?? []) {
        if (seqs.has(entry.seq) || !isOwed(world, log, conv, entry.seq, first.user, first.device)) continue
        if (sentAt(world, plainSentAt, conv, entry) > since) report(`not delivered: ${conv} ${entry.seq} never reached ${device}`)
      }
    }
  }
}

function groupBySession(connections: readonly ConnectionRecord[]): Map<string, ConnectionRecord[]> {
  const sessions = new Map<string, ConnectionRecord[]>()
  for (const connection of connections) {
    const key = `${connection.user}/${connection.device}`
    const own = sessions.get(key)
    if (own === undefined) sessions.set(key, [connection])
    else own.push(connection)
  }
  return sessions
}

/** A persistent session goes on at each connect, and what the client did not acknowledge comes again. */
function checkPersistent(own: readonly ConnectionRecord[], device: string, report: Report): void {
  let owed = new Map<string, Received>()
  own.forEach((connection, index) => {
    if (index > 0 && !connection.sessionPresent) report(`session lost: ${device} came back and its session was gone`)
    if (index === 0 && connection.sessionPresent) report(`session invented: ${device} was told of a session at its first connect`)
    const next = new Map<string, Received>()
    for (const received of connection.received) {
      const key = `${received.conv} ${received.seq}`
      owed.delete(key)
      if (!received.isAcknowledged) next.set(key, received)
    }
    if (connection.closedAt === undefined)
      for (const key of owed.keys()) report(`not delivered: ${key} was not acknowledged by ${device} and did not come again`)
    // What was cut short is still owed; a later connection brings it.
    owed = new Map([...owed, ...next])
  })
}

// --- promise 7: the end can be known --------------------------------------------------------------------------------

function checkReady({ connections }: History, _world: World, report: Report): void {
  for (const { user, device, ready, readyAt, closedAt, received } of connections) {
    const name = `${user}/${device}`
    if (ready === undefined || readyAt === undefined) {
      if (closedAt === undefined) report(`no end: ${name} is connected and got no ready`)
      continue
    }
    for (const { conv, seq, at } of received) {
      const head = ready.heads[isGroup(conv) ? conv : `u/${peerOf(conv, user)}`]
      if (at > readyAt && head !== undefined && seq <= head)
        report(`ready too early: ${name} got ${conv} ${seq} after ready had said ${head}`)
    }
    if (ready.truncated !== undefined) report(`cut: the backlog of ${name} was cut at ${JSON.stringify(ready.truncated)}`)
  }
}

// --- promise 5: what can be read ------------------------------------------------------------------------------------

/** By history and sync a user sees exactly what he may see. */
function checkReads({ reads, log }: History, world: World, report: Report): void {
  for (const { user, conv, by, entries } of reads) {
    const visible = (log.get(conv) ?? []).filter(({ seq }) => mayRead(world, conv, user, seq))
    const allowed = new Map(visible.map((entry) => [entry.seq, entry]))
    entries.forEach(({ seq, raw }, index) => {
      const entry = allowed.get(seq)
      if (entry === undefined) report(`leak: ${user} reads ${conv} ${seq} by ${by}`)
      else if (entry.raw !== raw) report(`changed: ${user} reads ${conv} ${seq} by ${by} as ${raw.slice(0, 80)}`)
      if (index > 0 && seq <= (entries[index - 1] as { seq: number }).seq) report(`order: ${by} of ${conv} gives ${user} ${seq} too late`)
    })
    const shown = new Set(entries.map(({ seq }) => seq))
    const missing = visible.filter(({ seq }) => !shown.has(seq)).map(({ seq }) => seq)
    if (missing.length > 0) report(`not readable: ${user} does not see ${conv} ${missing.slice(0, 10).join(', ')} by ${by}`)
  }
}
