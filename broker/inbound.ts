/**
 * One PUBLISH that a client sent on a chat topic, from its arrival to its acknowledgement. The connection keeps them in
 * order of arrival and writes PUBACK or PUBREC in that order [MQTT-4.6.0-2], each only when its outcome is known.
 */
import type { Connection } from './connection.js'
import type { Caller, PublishOutcome, RoutedPublish } from './plugin.js'
import { ackTopic, addressOf } from './topics.js'

export class Inbound implements RoutedPublish {
  settled = false

  constructor(
    readonly connection: Connection,
    readonly caller: Caller,
    readonly topic: string,
    readonly id: string,
    readonly payload: Buffer,
    readonly qos: 0 | 1 | 2,
    readonly retain: boolean,
    readonly dup: boolean,
    readonly packetId: number,
  ) {}

  done(outcome: PublishOutcome): void {
    if (this.settled) return
    this.settled = true
    const { connection } = this
    if (outcome.kind === 'unavailable') return connection.close(outcome.why)
    const ack = ackOf(outcome, this.caller.user, this.topic)
    if (ack !== undefined) connection.session?.sendControl(ackTopic(this.caller.user), ack)
    connection.settled(this)
  }

  reply(topic: string, payload: string): void {
    this.connection.session?.sendControl(topic, payload)
  }
}

/** What the sender is told on u/{me}/ack; nothing where there is nothing to tell. */
function ackOf(outcome: PublishOutcome, user: string, topic: string): string | undefined {
  if (outcome.kind === 'stored') {
    const conv = addressOf(outcome.conv, user)
    return `{"id":${JSON.stringify(outcome.id)},"conv":"${conv}","seq":${outcome.seq},"ts":${outcome.ts}${outcome.dup ? ',"dup":true' : ''}}`
  }
  if (outcome.kind === 'refused') return JSON.stringify({ id: outcome.id, topic, error: outcome.error.body() })
  return undefined
}
