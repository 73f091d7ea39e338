/**
 * One client's part in the load: the closed loop of its sends and the account of what it must receive. Everything is checked
 * as it arrives; `faults` tells at the end what was lost, came twice, came late or came to the wrong client.
 */

import type { LatencyHistogram } from './latency-histogram.js'
import type { ClientListener, LeanClient } from './lean-client.js'
import { firstControlId } from './lean-client.js'
import type { ClientPlan } from './scenarios/plan.js'
import { SeqLedger, SequenceTracker } from './sequence-tracker.js'
import { AckReader, DeliveryReader, elapsedMicros, MessageTemplate, stampNow } from './stamp.js'

/** Running totals of a kind of clients; windows are differences of two readings. */
export interface Tally {
  confirmed: number
  delivered: number
  latency: LatencyHistogram
}

/** What kind of answers the broker gives: Parley acks each send by message and numbers deliveries, a plain broker does not. */
export type Dialect = 'parley' | 'plain'

/** Readers that all clients of a process share: they remember where the fields stood in the last payload. */
export interface Readers {
  delivery: DeliveryReader
  ack: AckReader
}

export const createReaders = (dialect: Dialect): Readers => ({
  delivery: new DeliveryReader(dialect === 'parley' ? 'seq' : 'no-seq'),
  ack: new AckReader(),
})

export interface ParticipantOptions {
  dialect: Dialect
  inFlight: number
  bodyBytes: number
  readers: Readers
  tally: Tally
}

/** The kinds of faults that a run can show, and how many of each. */
export interface Faults {
  lost: number
  duplicates: number
  outOfOrder: number
  misdelivered: number
  seqFaults: number
  ackFaults: number
  connectionsLost: number
}

export const noFaults = (): Faults => ({
  lost: 0,
  duplicates: 0,
  outOfOrder: 0,
  misdelivered: 0,
  seqFaults: 0,
  ackFaults: 0,
  connectionsLost: 0,
})

export class Participant implements ClientListener {
  sent = 0
  inFlight = 0
  #sending = false
  #nextPacketId = 1
  #misdelivered = 0
  #strayPubacks = 0
  #refusedAcks = 0
  #firstAckFault: string | undefined
  #ended: string | undefined
  readonly #template: MessageTemplate | undefined
  readonly #outstanding: Uint8Array
  readonly #trackers: (SequenceTracker | undefined)[]
  readonly #firstHeard: number
  readonly #acks = new SequenceTracker()
  readonly #ledger = new SeqLedger()

  constructor(
    readonly plan: ClientPlan,
    readonly client: LeanClient,
    readonly options: ParticipantOptions,
  ) {
    const { sends, hears } = plan
    if (sends !== undefined) this.#template = new MessageTemplate(sends.topic, sends.sender, options.bodyBytes)
    this.#outstanding = new Uint8Array(sends === undefined ? 0 : firstControlId)
    this.#firstHeard = Math.min(...hears)
    this.#trackers = []
    for (const sender of hears) this.#trackers[sender - this.#firstHeard] = new SequenceTracker()
    client.listener = this
  }

  /** Opens the closed loop: from now on there are always `inFlight` sends without PUBACK. */
  start(): void {
    if (this.#template === undefined || this.#ended !== undefined) return
    this.#sending = true
    while (this.inFlight < this.options.inFlight) this.#send(this.#template)
    this.client.flush()
  }

  stop(): void {
    this.#sending = false
  }

  confirmed(packetId: number): void {
    if (this.#outstanding[packetId] !== 1) {
      this.#strayPubacks++
      return
    }
    this.#outstanding[packetId] = 0
    this.inFlight--
    this.options.tally.confirmed++
    if (this.#sending && this.#template !== undefined) this.#send(this.#template)
  }

  delivered(bytes: Buffer, start: number, end: number): void {
    const { readers, tally, dialect } = this.options
    const message = readers.delivery
    const isLoad = message.read(bytes, start, end)
    if (dialect === 'parley') this.#ledger.delivered(message.seq)
    if (!isLoad) return
    const tracker = this.#trackers[message.sender - this.#firstHeard]
    if (tracker === undefined) {
      this.#misdelivered++
      return
    }
    tracker.record(message.number)
    tally.delivered++
    tally.latency.record(elapsedMicros(message.sentAt, stampNow()))
  }

  acked(bytes: Buffer, start: number, end: number): void {
    const ack = this.options.readers.ack
    if (!ack.read(bytes, start, end) || ack.fault !== undefined) {
      this.#refusedAcks++
      this.#firstAckFault ??= ack.fault ?? bytes.toString('utf8', start, end)
    }
    if (ack.number >= 0) this.#acks.record(ack.number)
    if (ack.seq > 0) this.#ledger.own(ack.seq)
  }

  ended(reason: string): void {
    this.#ended = reason
    this.#sending = false
  }

  /** True when each own send has its PUBACK and, from Parley, its ack; or when the connection is gone. */
  isSettled(): boolean {
    if (this.#ended !== undefined) return true
    return this.inFlight === 0 && (this.options.dialect === 'plain' || this.#acks.received >= this.sent)
  }

  /** True when everything that the senders sent has arrived. */
  hasAll(sentBy: ReadonlyMap<number, number>): boolean {
    if (this.#ended !== undefined) return true
    return this.plan.hears.every((sender) => (this.#trackers[sender - this.#firstHeard]?.lost(sentBy.get(sender) ?? 0) ?? 0) === 0)
  }

  /** Adds this client's faults to `sum` and describes the first of each kind. */
  faults(sentBy: ReadonlyMap<number, number>, sum: Faults, notes: string[]): void {
    for (const sender of this.plan.hears) {
      const tracker = this.#trackers[sender - this.#firstHeard]
      if (tracker === undefined) continue
      const sent = sentBy.get(sender) ?? 0
      const lost = tracker.lost(sent)
      if (lost > 0) notes.push(`lost ${lost} of ${sent} messages from sender ${sender}, the first is number ${tracker.firstMissing()}`)
      if (tracker.duplicates > 0) notes.push(`${tracker.duplicates} messages from sender ${sender} came twice`)
      if (tracker.outOfOrder > 0) notes.push(`${tracker.outOfOrder} messages from sender ${sender} came after a later one`)
      sum.lost += lost
      sum.duplicates += tracker.duplicates
      sum.outOfOrder += tracker.outOfOrder
    }
    if (this.#misdelivered > 0) notes.push(`${this.#misdelivered} messages came that were not for this client`)
    sum.misdelivered += this.#misdelivered
    sum.seqFaults += this.#seqFaults(notes)
    sum.ackFaults += this.#ackFaults(notes)
    if (this.#ended !== undefined) {
      notes.push(`the connection ended: ${this.#ended}`)
      sum.connectionsLost++
    }
  }

  #seqFaults(notes: string[]): number {
    const { notIncreasing, withoutSeq } = this.#ledger
    const isComplete = this.#ledger.isComplete()
    if (notIncreasing > 0) notes.push(`${notIncreasing} deliveries had a seq that was not above the one before`)
    if (withoutSeq > 0) notes.push(`${withoutSeq} deliveries had no seq`)
    if (!isComplete) notes.push(`the seqs of deliveries and own acks have gaps or repeats: ${this.#ledger.describe()}`)
    return notIncreasing + withoutSeq + (isComplete ? 0 : 1)
  }

  #ackFaults(notes: string[]): number {
    const missing = this.options.dialect === 'parley' ? this.#acks.lost(this.sent) : 0
    const unconfirmed = this.inFlight
    if (this.#refusedAcks > 0) notes.push(`${this.#refusedAcks} sends were not acked plainly, the first: ${this.#firstAckFault}`)
    if (missing > 0) notes.push(`${missing} of ${this.sent} sends got no ack message`)
    if (this.#acks.duplicates > 0) notes.push(`${this.#acks.duplicates} sends were acked twice`)
    if (unconfirmed > 0) notes.push(`${unconfirmed} sends got no PUBACK`)
    if (this.#strayPubacks > 0) notes.push(`${this.#strayPubacks} PUBACKs were for nothing that was sent`)
    return this.#refusedAcks + missing + this.#acks.duplicates + unconfirmed + this.#strayPubacks
  }

  #send(template: MessageTemplate): void {
    const packetId = this.#nextPacketId
    this.#nextPacketId = packetId + 1 === firstControlId ? 1 : packetId + 1
    this.#outstanding[packetId] = 1
    const number = this.sent++
    this.inFlight++
    this.client.append(template.bytes, (target, at) => template.write(target, at, number, packetId, stampNow()))
  }
}
