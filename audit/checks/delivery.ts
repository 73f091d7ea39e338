/**
 * What reached the sessions (I2, I4, I5): on each connection only what its user may see, as it is stored, in order and without
 * a gap; in the end every live session has all that was owed to it, and a persistent one also what it had missed. What
 * `ready` names as cut off is not owed.
 */
import { type ConversationId, conversationOf, isGroup, peerOf } from '../../broker/topics.js'
import type { ConnectionRecord, History, Run } from '../history.js'
import type { Report } from '../verdict.js'
import type { World } from './world.js'

type Session = readonly ConnectionRecord[]

const runsOf = ({ before, after }: ConnectionRecord, conv: ConversationId): Run[] => [...(before[conv] ?? []), ...(after[conv] ?? [])]
const convsOf = ({ before, after }: ConnectionRecord): Set<ConversationId> => new Set([...Object.keys(before), ...Object.keys(after)])
const nameOf = ({ user, device }: ConnectionRecord): string => `${user}/${device}`

/** In order of CONNACK. */
export function sessionsOf({ connections }: History): Session[] {
  const sessions = new Map<string, ConnectionRecord[]>()
  for (const connection of connections) {
    const own = sessions.get(nameOf(connection))
    if (own === undefined) sessions.set(nameOf(connection), [connection])
    else own.push(connection)
  }
  return [...sessions.values()]
}

export function checkConnections({ connections, changed }: History, world: World, report: Report): void {
  for (const connection of connections) {
    for (const conv of convsOf(connection)) checkRuns(connection, conv, world, report)
    checkReady(connection, world, report)
  }
  for (const { conv, seq, who } of changed) report('changed', `${conv} ${seq} came to ${who} with another content`)
}

function checkRuns(connection: ConnectionRecord, conv: ConversationId, world: World, report: Report): void {
  const { user, device } = connection
  const name = nameOf(connection)
  const head = (world.log.get(conv)?.length ?? 1) - 1
  let last: number | undefined
  for (const [from, to] of runsOf(connection, conv)) {
    for (let seq = from; seq <= to; seq++) {
      if (world.mayRead(conv, user, seq)) continue
      report('leaked', `${name} got ${conv} ${seq}, which ${user} may not see`)
      break
    }
    if (to > head) report('lost', `${name} got ${conv} ${to}, which is not in the log`)
    if (last !== undefined && from <= last) report(from === last ? 'duplicated' : 'reordered', `${name} got ${conv} ${from} after ${last}`)
    const missing = last === undefined ? undefined : firstOwed(world, conv, last + 1, from - 1, user, device)
    if (missing !== undefined) report('gaps', `${name} got ${conv} ${last}, then ${from}, without ${missing}`)
    last = Math.max(last ?? 0, to)
  }
}

function firstOwed(world: World, conv: ConversationId, from: number, to: number, user: string, device: string): number | undefined {
  for (let seq = from; seq <= to; seq++) if (world.isOwed(conv, seq, user, device)) return seq
  return undefined
}

/** `ready` names heads that have all been delivered by then, of what the user may see and nothing else. */
function checkReady({ ready, after, user, device }: ConnectionRecord, world: World, report: Report): void {
  for (const [address, head] of Object.entries(ready?.heads ?? {})) {
    const conv = conversationOf(address, user) ?? address
    const log = world.log.get(conv)
    if (head === 0 || log === undefined) continue
    if (head >= log.length) report('lost', `${user}/${device} was told of ${conv} ${head}, which is not in the log`)
    else if (!world.mayRead(conv, user, head)) report('leaked', `${user}/${device} was told of ${conv} ${head}, which ${user} may not see`)
  }
  for (const [conv, runs] of Object.entries(ready === undefined ? {} : after)) {
    const head = ready?.heads[isGroup(conv) ? conv : `u/${peerOf(conv, user)}`] ?? 0
    const [first] = runs[0] as Run
    if (first <= head) report('gaps', `${user}/${device} was told that ${conv} is complete up to ${head}, and then got ${first}`)
  }
}

export function checkSessions(history: History, world: World, report: Report): void {
  for (const session of sessionsOf(history)) {
    const { user, clean } = session[0] as ConnectionRecord
    for (const conv of world.conversationsOf(user)) {
      if (clean) checkClean(session, conv, world, report)
      else checkPersistent(session, conv, world, report)
    }
    if (!clean) checkUnacked(session, report)
  }
}

/** It is owed what was sent while it was connected. */
function checkClean(session: Session, conv: ConversationId, world: World, report: Report): void {
  for (const connection of session) {
    const runs = runsOf(connection, conv)
    const isLive = connection.downAt === undefined
    const end = isLive ? (world.log.get(conv)?.length ?? 1) - 1 : (runs[0]?.[0] ?? 0)
    const got = new Set<number>()
    if (isLive) for (const [from, to] of runs) for (let seq = from; seq <= to; seq++) got.add(seq)
    const { upAt, user, device } = connection
    for (let seq = end; seq > 0 && world.sentUpTo(conv, seq) > upAt; seq--) {
      if (got.has(seq) || world.sentAt(conv, seq) <= upAt || !world.isOwed(conv, seq, user, device)) continue
      if (isLive) report('lost', `${conv} ${seq} never reached ${nameOf(connection)}, which was connected`)
      else if (seq < end) report('gaps', `${nameOf(connection)} got ${conv} ${end} first, without ${seq}`)
    }
  }
}

/** It is owed all from its first connect on; a connection goes on where what has arrived so far ends. */
function checkPersistent(session: Session, conv: ConversationId, world: World, report: Report): void {
  const [first] = session as [ConnectionRecord]
  const { user, device, upAt } = first
  const head = (world.log.get(conv)?.length ?? 1) - 1
  const got = new Uint8Array(head + 2)
  let start = 1
  while (start <= head && world.sentAt(conv, start) <= upAt) start++
  for (const connection of session) {
    markCut(connection, conv, got)
    const [run] = runsOf(connection, conv)
    if (run !== undefined && connection.ready !== undefined) {
      const missing = firstMissing(world, conv, got, start, Math.min(run[0], head + 1) - 1, upAt, user, device)
      if (missing !== undefined) report('gaps', `${nameOf(first)} came back and got ${conv} ${run[0]} first, without ${missing}`)
    }
    for (const [from, to] of runsOf(connection, conv)) got.fill(1, from, Math.min(to, head) + 1)
  }
  if (session.at(-1)?.downAt !== undefined) return // It did not come back in the end, so nothing was due.
  const missing = firstMissing(world, conv, got, start, head, upAt, user, device)
  if (missing !== undefined) report('lost', `${conv} ${missing} never reached ${nameOf(first)}`)
}

function markCut({ ready, user }: ConnectionRecord, conv: ConversationId, got: Uint8Array): void {
  const cut = ready?.truncated?.[isGroup(conv) ? conv : `u/${peerOf(conv, user)}`]
  if (cut !== undefined) got.fill(1, cut[0], cut[1] + 1)
}

function firstMissing(
  world: World,
  conv: ConversationId,
  got: Uint8Array,
  from: number,
  to: number,
  since: number,
  user: string,
  device: string,
): number | undefined {
  for (let seq = from; seq <= to; seq++) {
    if (got[seq] === 0 && world.sentAt(conv, seq) > since && world.isOwed(conv, seq, user, device)) return seq
  }
  return undefined
}

/** What was received and not acknowledged comes again, unless the end came first. */
function checkUnacked(session: Session, report: Report): void {
  const last = session.at(-1) as ConnectionRecord
  if (last.downAt !== undefined || last.ready === undefined) return
  session.forEach((connection, index) => {
    if (connection === last) return
    const later = session.slice(index + 1)
    for (const [conv, seq] of connection.unacked) {
      const cut = new Uint8Array(seq + 2)
      for (const next of later) markCut(next, conv, cut)
      const isBack = cut[seq] === 1 || later.some((next) => runsOf(next, conv).some(([from, to]) => from <= seq && seq <= to))
      if (!isBack) report('lost', `${conv} ${seq} was not acknowledged by ${nameOf(last)} and did not come again`)
    }
  })
}
