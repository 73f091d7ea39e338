/**
 * Honest presence (I9): who is connected is not shown offline for long, who is gone not online, and who watches is told something. What a
 * client shows is what it was told last on its connection; who was connected is what the clients themselves know.
 */
import { type ConversationId, isGroup } from '../../broker/topics.js'
import type { ConnectionRecord, History } from '../history.js'
import type { Report } from '../verdict.js'
import type { World } from './world.js'

/** What the servers promise, with the grace and the death of a node in it. */
const presenceMsMax = 15_000
/** A client that does not read for a while shows what was. */
const readMsMax = 7_000
const boundMs = presenceMsMax + readMsMax
/** A user who comes back within the grace was never away. */
const graceMs = 5_000
/** After a fault of the only node clients come back and are told at once; in a cluster it takes a while until it is known again who is where. */
const nodeShadowMs = 2_000
const clusterShadowMs = 10_000

interface Interval {
  fromMs: number
  toMs: number
}

interface Shown extends Interval {
  status: 'online' | 'offline' | 'nothing'
}

export function checkWatches(history: History, world: World, report: Report): void {
  const endMs = history.healed?.endMs ?? history.healed?.ms ?? 0
  const there = new Map<string, { surely: Interval[]; perhaps: Interval[] }>()
  const connectionsOf = groupByUser(history.connections)
  const thereOf = (user: string): { surely: Interval[]; perhaps: Interval[] } => {
    const known = there.get(user) ?? presencesOf(connectionsOf.get(user) ?? [], endMs)
    there.set(user, known)
    return known
  }
  for (const { by, user, shown } of shownOf(history, endMs)) {
    if (by.isSilent || !sharedAlways(world, by.user, user) || world.wasBlocked(user, by.user)) continue
    const { surely, perhaps } = thereOf(user)
    for (const { status, ...when } of shown) {
      const wrong = status === 'offline' ? overlaps(when, surely) : status === 'online' ? without(when, perhaps) : [when]
      for (const { fromMs, toMs } of wrong) {
        const lateMs = toMs - fromMs - troubledMs({ fromMs, toMs }, history)
        if (lateMs <= boundMs) continue
        const said =
          status === 'nothing' ? `nothing of ${user}` : `${user} ${status}, who ${status === 'online' ? 'had gone' : 'was connected'},`
        report('presence', `${by.user}/${by.device} was shown ${said} for ${toMs - fromMs} ms from ${fromMs} ms on`)
      }
    }
  }
}

function groupByUser(connections: readonly ConnectionRecord[]): Map<string, ConnectionRecord[]> {
  const byUser = new Map<string, ConnectionRecord[]>()
  for (const connection of connections) {
    const own = byUser.get(connection.user)
    if (own === undefined) byUser.set(connection.user, [connection])
    else own.push(connection)
  }
  return byUser
}

/** Of one that was cut off without being told nobody knows how long the server takes it for connected: until its device comes again. */
function presencesOf(connections: readonly ConnectionRecord[], endMs: number): { surely: Interval[]; perhaps: Interval[] } {
  const surely: Interval[] = []
  const perhaps: Interval[] = []
  for (const { device, upMs, downMs = endMs, isSilent } of connections) {
    const next = connections.find((other) => other.device === device && other.upMs > upMs)?.upMs ?? Number.POSITIVE_INFINITY
    perhaps.push({ fromMs: upMs, toMs: isSilent ? Math.max(downMs, next) : downMs })
    if (!isSilent) surely.push({ fromMs: upMs, toMs: downMs })
  }
  return { surely: joinedWithin(surely, graceMs), perhaps: joinedWithin(perhaps, graceMs) }
}

/** In order, with what is less than this apart as one. */
function joinedWithin(intervals: Interval[], apartMs: number): Interval[] {
  const all: Interval[] = []
  for (const { fromMs, toMs } of intervals.sort((a, b) => a.fromMs - b.fromMs)) {
    const last = all.at(-1)
    if (last !== undefined && fromMs - last.toMs <= apartMs) last.toMs = Math.max(last.toMs, toMs)
    else all.push({ fromMs, toMs })
  }
  return all
}

function overlaps({ fromMs, toMs }: Interval, intervals: readonly Interval[]): Interval[] {
  return intervals
    .map((each) => ({ fromMs: Math.max(fromMs, each.fromMs), toMs: Math.min(toMs, each.toMs) }))
    .filter((each) => each.fromMs < each.toMs)
}

function without({ fromMs, toMs }: Interval, intervals: readonly Interval[]): Interval[] {
  const left: Interval[] = []
  let at = fromMs
  for (const each of intervals) {
    if (each.fromMs > at) left.push({ fromMs: at, toMs: Math.min(toMs, each.fromMs) })
    at = Math.max(at, each.toMs)
  }
  if (at < toMs) left.push({ fromMs: at, toMs })
  return left.filter((each) => each.fromMs < each.toMs)
}

/** What each connection showed of each user whom it watches, from when it asked to its end. */
function* shownOf({ watches, presences }: History, endMs: number): Generator<{ by: ConnectionRecord; user: string; shown: Shown[] }> {
  const told = new Map<string, { ms: number; status: 'online' | 'offline' }[]>()
  for (const { connection, user, ms, status } of presences) {
    const key = `${connection} ${user}`
    const own = told.get(key)
    if (own === undefined) told.set(key, [{ ms, status }])
    else own.push({ ms, status })
  }
  for (const { by, connection, users, ms } of watches) {
    for (const user of users) {
      const shown: Shown[] = [{ status: 'nothing', fromMs: ms, toMs: by.downMs ?? endMs }]
      for (const { ms: at, status } of told.get(`${connection} ${user}`) ?? []) {
        const last = shown.at(-1) as Shown
        if (last.status === status) continue
        shown.push({ status, fromMs: at, toMs: last.toMs })
        last.toMs = at
      }
      yield { by, user, shown }
    }
  }
}

/** Of this time, how much servers were in trouble or had not made it good yet: nothing is expected of them then. */
function troubledMs(when: Interval, { run, outages }: History): number {
  const shadowMs = (run.nodes ?? 1) > 1 ? clusterShadowMs : nodeShadowMs
  const troubles = joinedWithin(
    outages.map(({ fromMs, toMs }) => ({ fromMs, toMs: toMs + shadowMs })),
    0,
  )
  return overlaps(when, troubles).reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0)
}

/** From the beginning to the end; who comes to share something only later may be refused, and who ceases to watches no more. */
function sharedAlways(world: World, watcher: string, user: string): boolean {
  const isOfBoth = (conv: ConversationId): boolean => isGroup(conv) && world.wasAlwaysIn(conv, watcher) && world.wasAlwaysIn(conv, user)
  return world.conversationsOf(watcher).some(isOfBoth)
}
