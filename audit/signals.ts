/** What a connection is told beside messages, written down: that all is there, receipts of a peer, who is writing, and who is online. */
import { type Address, conversationOf } from '../broker/topics.js'
import type { Ready } from './history.js'
import type { Connection } from './link.js'
import type { Recorder } from './recorder.js'

type ServerEvent = ({ type: 'ready' } & Ready) | { type: 'receipt'; conv: Address; user: string; delivered: number; read: number }

const typing = '/typing'
const presence = '/presence'
const watchedUser = /^u\/([^/]+)\/presence$/

/** The connection subscribes to these filters now. */
export function recordWatch(recorder: Recorder, { number }: Connection, filters: readonly string[]): void {
  const users = filters.flatMap((filter) => watchedUser.exec(filter)?.[1] ?? [])
  if (users.length > 0) recorder.write({ event: 'watch', connection: number, users, ms: recorder.ms })
}

/** What it does not know is passed over. */
export function recordSignal(recorder: Recorder, user: string, connection: Connection, topic: string, payload: Buffer): void {
  const when = { connection: connection.number, at: recorder.tick() }
  if (topic.endsWith(typing)) {
    const { from, on } = JSON.parse(payload.toString()) as { from: string; on: boolean }
    const conv = conversationOf(topic.startsWith('g/') ? topic.slice(0, -typing.length) : `u/${from}`, user)
    if (on && conv !== undefined) recorder.write({ event: 'heard', ...when, conv, from })
  } else if (topic.endsWith(presence)) {
    const { status } = JSON.parse(payload.toString()) as { status: 'online' | 'offline' }
    const watched = watchedUser.exec(topic)?.[1]
    if (watched !== undefined) recorder.write({ event: 'presence', connection: connection.number, user: watched, status, ms: recorder.ms })
  } else if (topic.endsWith('/event')) recordEvent(recorder, user, connection, when, JSON.parse(payload.toString()) as ServerEvent)
}

function recordEvent(
  recorder: Recorder,
  user: string,
  connection: Connection,
  when: { connection: number; at: number },
  event: ServerEvent,
): void {
  if (event.type === 'ready') {
    const { type: _, ...ready } = event
    connection.isReady = true
    recorder.write({ event: 'ready', ...when, ready })
  } else if (event.type === 'receipt') {
    const conv = conversationOf(event.conv, user)
    if (conv === undefined) return
    const { user: peer, delivered, read } = event
    recorder.write({ event: 'receipt', ...when, conv, user: peer, delivered, read, acked: recorder.acknowledgedBy(peer, conv) })
  }
}
