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

  get epoch(): number {
    return this.connection.session?.epoch ?? 0
  }

  done(outcome: PublishOutcome): void {
    if (this.settled) return
    this.settled = true
    const { connection } = this
    if (outcome.kind === 'unavailable') return connection.close(outcome.why)
    this.#acknowledge(outcome, this.caller.user)
    connection.settled(this)
  }

  /** The sender is told on u/{me}/ack, where there is something to tell. */
  #acknowledge(outcome: PublishOutcome, user: string): void {
    const { session } = this.connection
    if (session === undefined) return
    if (outcome.kind === 'stored') {
      session.sendStoredAck(outcome.id, addressOf(outcome.conv, user), outcome.seq, outcome.ts, outcome.dup)
    } else if (outcome.kind === 'refused') {
      session.sendControl(ackTopic(user), JSON.stringify({ id: outcome.id, topic: this.topic, error: outcome.error.body() }))
    }
  }

  reply(topic: string, payload: string): void {
    this.connection.session?.sendControl(topic, payload)
  }
}
