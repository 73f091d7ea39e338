/**
 * The sessions themselves (I8) and the server as a process (I7): a persistent session goes on at each connect, a device
 * has one connection at a time, a token's end ends it; the server ends only when it is told, and keeps nothing of who is gone.
 */
import type { ConnectionRecord, EventOf, History } from '../history.js'
import { descriptorsSpare, lagMsMax, type Report } from '../verdict.js'
import { sessionsOf } from './delivery.js'

/** Two connections of a device may overlap for so long. */
const overlapMsMax = 5_000
/** A token may be outlived by so much: the server may have been stopped, or its clock was elsewhere. */
const expiryMsMax = 15_000

export function checkPresence(history: History, report: Report): void {
  for (const session of sessionsOf(history)) {
    const [first] = session as [ConnectionRecord]
    const name = `${first.user}/${first.device}`
    session.forEach((connection, index) => {
      if (!connection.clean && index > 0 && !connection.present) report('sessions', `${name} came back and its session was gone`)
      if (index === 0 && connection.attempt === 1 && connection.present)
        report('sessions', `${name} was told of a session at its first connect`)
      const next = session[index + 1]
      if (next !== undefined) checkOverlap(connection, next, name, history, report)
      if (connection.downAt === undefined && connection.ready === undefined) report('sessions', `${name} is connected and never got ready`)
    })
    if (session.filter(({ downAt }) => downAt === undefined).length > 1) report('sessions', `${name} has two connections in the end`)
  }
  const isClockMoved = history.faults.some(({ kind }) => kind === 'clock')
  if (!isClockMoved) checkExpiry(history, report)
}

/**
 * From when on the servers of a cluster could know what happened then: a node that is stopped, or does not reach Redis or the store, may
 * find out when that is over. One node alone always knows.
 */
function knownFrom(ms: number, { run, outages }: History): number {
  if ((run.nodes ?? 1) === 1) return ms
  return outages.reduce((known, { fromMs, toMs }) => (fromMs - overlapMsMax <= known && known <= toMs ? toMs : known), ms)
}

function checkOverlap(connection: ConnectionRecord, next: ConnectionRecord, name: string, history: History, report: Report): void {
  const overlapMs = (connection.downMs ?? Number.POSITIVE_INFINITY) - knownFrom(next.upMs, history)
  if (!connection.isSilent && overlapMs > overlapMsMax) report('sessions', `${name} had two connections at a time for ${overlapMs} ms`)
}

function checkExpiry(history: History, report: Report): void {
  const { connections, healed } = history
  for (const { user, device, expiresMs, downMs, isSilent } of connections) {
    const endMs = downMs ?? healed?.ms ?? 0
    if (expiresMs !== undefined && !isSilent && endMs > knownFrom(expiresMs, history) + expiryMsMax)
      report('sessions', `${user}/${device} stayed for ${endMs - expiresMs} ms after its token had expired`)
  }
}

/** What a server may log as an error when its disk is full or it is being killed. */
const expectedErrors = /the store|the backlog of a session cannot be read/
/** Of what is no line of its log. LMDB prints what it gets from a full disk by itself. */
const crashLines = /unhandled|uncaught|fatal error|segmentation|assertion/i
/** Of a node; far above what any run needs that is not kept for ever. */
const rssMbMax = 1_024

export function checkServer({ run, nodes, logged, healed, samples }: History, report: Report): void {
  for (const { node, what, isOrdered, why } of nodes)
    if (what === 'exit' && !isOrdered) report('unbounded', `${node} ended by itself: ${why}`)
  for (const { node, level, text } of logged) {
    const isFault = level === 'none' ? crashLines.test(text) : !expectedErrors.test(text)
    if (isFault) report('unbounded', `${node} logged: ${text.slice(0, 300)}`)
  }
  const rssMb = Math.max(0, ...samples.map((sample) => sample.rssMb))
  if (rssMb > rssMbMax * (run.nodes ?? 1)) report('unbounded', `the servers took ${rssMb} MB of memory`)
  if (healed === undefined) report('unbounded', 'the run did not come to its end')
  else if (healed.complaint !== '') report('unbounded', `${healed.waitedMs} ms after healing: ${healed.complaint}`)
  else checkLeftovers(healed, report)
}

function checkLeftovers({ gauge, descriptors, lagMs, sessions }: EventOf<'healed'>, report: Report): void {
  if (gauge !== null && gauge !== sessions) report('unbounded', `the server counts ${gauge} sessions where ${sessions} are connected`)
  if (descriptors !== null && descriptors > sessions + descriptorsSpare)
    report('unbounded', `the server has ${descriptors} descriptors more than at its start, where ${sessions} are connected`)
  if (lagMs !== null && lagMs > lagMsMax) report('unbounded', `the event loop of the server lags by ${lagMs} ms, though nothing is done`)
}
