/** What a connection is told beside messages, written down: that all is there, receipts of a peer, and who is writing. */
import { type Address, conversationOf } from '../broker/topics.js'
import type { Ready } from './history.js'
import type { Connection } from './link.js'
import type { Recorder } from './recorder.js'

type ServerEvent = ({ type: 'ready' } & Ready) | { type: 'receipt'; conv: Address; user: string; delivered: number; read: number }

const typing = '/typing'

/** What it does not know is passed over. */
export function recordSignal(recorder: Recorder, user: string, connection: Connection, topic: string, payload: Buffer): void {
  const when = { connection: connection.number, at: recorder.tick() }
  if (topic.endsWith(typing)) {
    const { from, on } = JSON.parse(payload.toString()) as { from: string; on: boolean }
    const conv = conversationOf(topic.startsWith('g/') ? topic.slice(0, -typing.length) : `u/${from}`, user)
    if (on && conv !== undefined) recorder.write({ event: 'heard', ...when, conv, from })
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
