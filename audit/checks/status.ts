/**
 * What users are told of each other, and of how far they are: a receipt claims no more than was acknowledged or read, and never goes back
 * on a connection; nobody hears somebody write who does not, or is told of a group that he is not in; the conversation list counts from
 * the positions that were kept.
 */
import { type ConversationId, isGroup, peerOf, usersOf } from '../../broker/topics.js'
import type { ConnectionRecord, History, ListRow } from '../history.js'
import type { Report } from '../verdict.js'
import type { Entry, World } from './world.js'

/** How far a user has said that he has read: for certain, and at most. */
interface Position {
  kept: number
  sent: number
}

export function checkStatus(history: History, world: World, report: Report): void {
  checkReceipts(history, world, report)
  checkTyping(history, world, report)
  const positions = positionsOf(history)
  for (const { user, rows } of history.lists) for (const row of rows) checkRow(user, row, positions, world, report)
}

const positionKey = (user: string, conv: ConversationId): string => `${user} ${conv}`

function positionsOf({ positions }: Pick<History, 'positions'>): Map<string, Position> {
  const byUser = new Map<string, Position>()
  for (const { user, conv, seq, isPubacked } of positions) {
    const key = positionKey(user, conv)
    const { kept, sent } = byUser.get(key) ?? { kept: 0, sent: 0 }
    byUser.set(key, { kept: isPubacked ? Math.max(kept, seq) : kept, sent: Math.max(sent, seq) })
  }
  return byUser
}

const nameOf = ({ user, device }: ConnectionRecord): string => `${user}/${device}`

/** What a user sends himself he has, so it needs no acknowledgement. */
function hasOthers({ log }: World, conv: ConversationId, user: string, after: number, to: number): boolean {
  for (let seq = after + 1; seq <= to; seq++) if (log.get(conv)?.[seq]?.from !== user) return true
  return false
}

/** Receipts and positions stand in order of time, each for itself. */
function checkReceipts({ receipts, positions }: History, world: World, report: Report): void {
  const sent = new Map<string, number>()
  const last = new Map<string, { delivered: number; read: number }>()
  let next = 0
  for (const { by, at, connection, conv, user, delivered, read, acked } of receipts) {
    for (let position = positions[next]; position !== undefined && position.at < at; position = positions[++next]) {
      const key = positionKey(position.user, position.conv)
      sent.set(key, Math.max(sent.get(key) ?? 0, position.seq))
    }
    const told = `${nameOf(by)} was told that ${user} has ${conv}`
    const mostRead = sent.get(positionKey(user, conv)) ?? 0
    if (!usersOf(conv).includes(by.user)) report('leaked', `${told}, which is not his`)
    if (read > mostRead) report('status', `${told} read up to ${read}; he had said ${mostRead}`)
    if (hasOthers(world, conv, user, Math.max(acked, mostRead), delivered))
      report('status', `${told} up to ${delivered}; acknowledged was ${acked}`)
    const key = `${connection} ${conv}`
    const before = last.get(key)
    if (before !== undefined && (delivered < before.delivered || read < before.read))
      report('status', `${told} up to ${delivered} and read up to ${read}, after ${before.delivered} and ${before.read}`)
    last.set(key, { delivered, read })
  }
}

function checkTyping({ heard, typed }: History, world: World, report: Report): void {
  const firstTyped = new Map<string, number>()
  for (const { user, conv, at } of typed) {
    const key = `${user} ${conv}`
    if (!firstTyped.has(key)) firstTyped.set(key, at)
  }
  for (const { by, conv, from, at } of heard) {
    const words = `${nameOf(by)} heard ${from} write in ${conv}`
    const wasIn = (user: string): boolean => (isGroup(conv) ? world.spans.get(conv)?.has(user) === true : usersOf(conv).includes(user))
    if (!wasIn(by.user)) report('leaked', `${words}, which is not his`)
    else if (!wasIn(from)) report('unlawful', `${words}, which ${from} is not in`)
    if ((firstTyped.get(`${from} ${conv}`) ?? Number.POSITIVE_INFINITY) > at) report('status', `${words}, who had not`)
  }
}

/** Of a group only those who were in all the time: others count from their joins. */
function checkRow(user: string, row: ListRow, positions: ReadonlyMap<string, Position>, world: World, report: Report): void {
  const { conv, head, unread, delivered, read, acked } = row
  const entries = world.log.get(conv)
  if (entries === undefined || !world.wasAlwaysIn(conv, user)) return
  const name = `the list of ${user} has ${conv}`
  if (head !== entries.length - 1) report(head < entries.length - 1 ? 'lost' : 'status', `${name} up to ${head} of ${entries.length - 1}`)
  const none = { kept: 0, sent: 0 }
  const own = positions.get(positionKey(user, conv)) ?? none
  const lastOwn = lastOf(entries, (entry) => entry.from === user && entry.type !== 'system')
  const lastOrJoin = lastOf(entries, (entry) => entry.from === user || (entry.type === 'system' && entry.seq === 1))
  const [least, most] = [Math.max(0, head - Math.max(own.sent, lastOrJoin)), Math.max(0, head - Math.max(own.kept, lastOwn))]
  if (unread < least || unread > most) report('status', `${name} with ${unread} unread; there are ${rangeOf(least, most)}`)
  if (isGroup(conv)) return
  const peer = positions.get(positionKey(peerOf(conv, user), conv)) ?? none
  if (read < peer.kept || read > peer.sent)
    report('status', `${name} read up to ${read}; the peer has said ${rangeOf(peer.kept, peer.sent)}`)
  if (hasOthers(world, conv, peerOf(conv, user), Math.max(acked, peer.sent), delivered))
    report('status', `${name} delivered up to ${delivered}; acknowledged was ${acked}`)
}

const rangeOf = (least: number, most: number): string => (least === most ? String(most) : `${least} to ${most}`)

const lastOf = (entries: readonly (Entry | undefined)[], isIt: (entry: Entry) => boolean): number =>
  entries.findLast((entry) => entry !== undefined && isIt(entry))?.seq ?? 0
