/**
 * One client's part in the load: its sends, in a closed or an open loop, and the account of what it must receive. Everything is checked
 * as it arrives; `faults` tells at the end what was lost, came twice, came late or came to the wrong client. Its connection may be replaced
 * by another of the same session.
 */
import type { Faults } from './faults.js'
import { type ClientListener, firstControlId, type LeanClient } from './lean-client.js'
import { PacketIds } from './packet-ids.js'
import type { ClientPlan } from './scenarios/plan.js'
import { SeqLedger, SequenceTracker } from './sequence-tracker.js'
import { AckReader, DeliveryReader, isSince, MessageTemplate, stampNow } from './stamp.js'
import type { Tally } from './tally.js'

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
  /** Told about each delivery; for read positions. */
  onDelivered?: (participant: Participant, conv: string, seq: number) => void
}

/** Sends of an open loop without PUBACK, of one client; what is due beyond it waits here, with its scheduled time. */
const openInFlightMax = 10_000

interface Lane {
  template: MessageTemplate
  number: number
  conv: string
  sent: number
}

const everything = ''
/** After so long nothing that a session missed is still to come; well below the 500 s within which stamps can be compared. */
const catchUpMs = 300_000

/** What speaks of an earlier message, in the place of a new one. */
export type ActType = 'recall' | 'edit' | 'reaction'

interface Place {
  conv: string
  seq: number
}

export class Participant implements ClientListener {
  sent = 0
  readonly heardOf = { typing: 0, receipt: 0 }
  client: LeanClient
  #sending = false
  /** Messages that a closed loop sends on each stream. */
  #quota = Number.POSITIVE_INFINITY
  #nextLane = 0
  #due: { lane: number; stamp: number }[] = []
  #misdelivered = 0
  /** Own acts without ack, by id. */
  readonly #acts = new Set<string>()
  #actCount = 0
  #lastHeard: Place | undefined
  #lastOwn: Place | undefined
  #refusedAcks = 0
  #firstAckFault: string | undefined
  #ended: string | undefined
  /** When the session came back. */
  #backSince: number | undefined
  readonly #lanes: Lane[]
  readonly #packetIds = new PacketIds(firstControlId)
  readonly #trackers: (SequenceTracker | undefined)[] = []
  readonly #ledgers = new Map<string, SeqLedger>()
  readonly #ledgerOf: (SeqLedger | undefined)[] = []
  readonly #firstHeard: number
  readonly #acks = new SequenceTracker()
  /** Lane of each send that is not acked, where there are several. */
  readonly #laneOf = new Map<number, number>()

  constructor(
    readonly plan: ClientPlan,
    client: LeanClient,
    readonly options: ParticipantOptions,
  ) {
    const { sends, hears, convOf } = plan
    const isOneConversation = convOf === undefined && sends.length <= 1
    this.#lanes = sends.map(({ topic, number }) => ({
      template: new MessageTemplate(topic, number, options.bodyBytes),
      number,
      conv: isOneConversation ? everything : topic.slice(0, topic.lastIndexOf('/')),
      sent: 0,
    }))
    this.#firstHeard = Math.min(...hears)
    for (const stream of hears) {
      this.#trackers[stream - this.#firstHeard] = new SequenceTracker()
      this.#ledgerOf[stream - this.#firstHeard] = this.#ledger(convOf?.(stream) ?? everything)
    }
    this.client = client
    client.listener = this
  }

  get inFlight(): number {
    return this.#packetIds.claimed
  }

  /** Goes on with another connection of the same session. */
  attach(client: LeanClient): void {
    this.client = client
    this.#ended = undefined
    client.listener = this
    const since = stampNow()
    this.#backSince = since
    setTimeout(() => {
      if (this.#backSince === since) this.#backSince = undefined
    }, catchUpMs).unref()
  }

  /** Opens the closed loop: from now on there are always `inFlight` sends without PUBACK, until each stream has its quota. */
  start(quota = Number.POSITIVE_INFINITY): void {
    if (this.#lanes.length === 0 || this.#ended !== undefined) return
    this.#quota = quota
    this.#sending = true
    while (this.#sending && this.inFlight < this.options.inFlight) this.#sendNext()
    this.client.flush()
  }

  /** One send of an open loop, stamped with the time at which it is due. */
  offer(lane: number, stamp: number): void {
    if (this.inFlight >= openInFlightMax) {
      this.#due.push({ lane, stamp })
      return
    }
    this.#send(lane, stamp)
    this.client.flush()
  }

  heard(what: 'typing' | 'receipt'): void {
    this.heardOf[what]++
  }

  /**
   * Recalls or edits the last own message, or reacts to the last one of somebody else; resolves at PUBACK. Undefined when there is none, or
   * its ack is outstanding.
   */
  act(type: ActType): Promise<void> | undefined {
    const place = type === 'reaction' ? this.#lastHeard : this.#lastOwn
    if (place === undefined || place.seq <= 0) return undefined
    if (type !== 'reaction') this.#lastOwn = undefined
    const id = `act-${this.#actCount++}`
    const more = { recall: {}, edit: { body: 'as it should have been' }, reaction: { emoji: '👍', on: true } }[type]
    this.#acts.add(id)
    return this.client.publish(`${place.conv}/msg`, JSON.stringify({ id, type, body: { seq: place.seq, ...more } }))
  }

  stop(): void {
    this.#sending = false
  }

  confirmed(packetId: number): void {
    if (!this.#packetIds.release(packetId)) return
    this.options.tally.confirmed++
    const due = this.#due.shift()
    if (due !== undefined) this.#send(due.lane, due.stamp)
    else if (this.#sending) this.#sendNext()
  }

  delivered(bytes: Buffer, start: number, end: number): void {
    const { readers, tally, dialect } = this.options
    const message = readers.delivery
    const isLoad = message.read(bytes, start, end)
    if (!isLoad) {
      if (dialect === 'parley') this.#ledgerOfEntry(bytes, start, end).delivered(message.seq)
      return
    }
    const tracker = this.#trackers[message.sender - this.#firstHeard]
    if (tracker === undefined) {
      if (dialect === 'parley') this.#ledger(everything).delivered(message.seq)
      this.#misdelivered++
      return
    }
    if (dialect === 'parley') this.#ledgerOf[message.sender - this.#firstHeard]?.delivered(message.seq)
    tracker.record(message.number)
    tally.deliver(message.sentAt, this.#backSince === undefined || isSince(this.#backSince, message.sentAt) ? 'live' : 'waited')
    if (this.options.onDelivered === undefined) return
    const conv = this.plan.convOf?.(message.sender) ?? everything
    this.#lastHeard = { conv, seq: message.seq }
    this.options.onDelivered(this, conv, message.seq)
  }

  acked(bytes: Buffer, start: number, end: number): void {
    const ack = this.options.readers.ack
    if (this.#acts.size > 0 && this.#actAcked(bytes, start, end)) return
    if (!ack.read(bytes, start, end) || ack.fault !== undefined) {
      this.#refusedAcks++
      this.#firstAckFault ??= ack.fault ?? bytes.toString('utf8', start, end)
    }
    if (ack.number >= 0) this.#acks.record(ack.number)
    if (ack.seq <= 0) return
    const lane = this.#lanes.length > 1 ? this.#laneOf.get(ack.number) : 0
    this.#laneOf.delete(ack.number)
    if (lane === undefined) return
    const conv = this.#lanes[lane]?.conv ?? everything
    this.#ledger(conv).own(ack.seq)
    if (this.options.onDelivered !== undefined) this.#lastOwn = { conv, seq: ack.seq }
  }

  /** True when the ack is that of an act. */
  #actAcked(bytes: Buffer, start: number, end: number): boolean {
    const { id, conv, seq } = JSON.parse(bytes.toString('utf8', start, end)) as { id?: string; conv?: string; seq?: number }
    if (id === undefined || !this.#acts.delete(id)) return false
    if (conv !== undefined && seq !== undefined) this.#ledger(conv).own(seq)
    else {
      this.#refusedAcks++
      this.#firstAckFault ??= bytes.toString('utf8', start, end)
    }
    return true
  }

  ended(reason: string): void {
    this.#ended = reason
    this.#sending = false
  }

  /** True when each own send has its PUBACK and, from Parley, its ack; or when the connection is gone. */
  isSettled(): boolean {
    if (this.#ended !== undefined) return true
    return (
      this.inFlight === 0 &&
      this.#due.length === 0 &&
      this.#acts.size === 0 &&
      (this.options.dialect === 'plain' || this.#acks.received >= this.sent)
    )
  }

  /** How much was sent on each stream. */
  counts(): [stream: number, sent: number][] {
    return this.#lanes.map(({ number, sent }) => [number, sent])
  }

  /** True when everything that was sent to this client has arrived. */
  hasAll(sentOn: ReadonlyMap<number, number>): boolean {
    if (this.#ended !== undefined) return true
    return this.plan.hears.every((stream) => (this.#trackers[stream - this.#firstHeard]?.lost(sentOn.get(stream) ?? 0) ?? 0) === 0)
  }

  /** Adds this client's faults to `sum` and describes the first of each kind. */
  faults(sentOn: ReadonlyMap<number, number>, sum: Faults, notes: string[]): void {
    for (const stream of this.plan.hears) {
      const tracker = this.#trackers[stream - this.#firstHeard]
      if (tracker === undefined) continue
      const sent = sentOn.get(stream) ?? 0
      const lost = tracker.lost(sent)
      if (lost > 0) notes.push(`lost ${lost} of ${sent} messages from sender ${stream}, the first is number ${tracker.firstMissing()}`)
      if (tracker.duplicates > 0) notes.push(`${tracker.duplicates} messages from sender ${stream} came twice`)
      if (tracker.outOfOrder > 0) notes.push(`${tracker.outOfOrder} messages from sender ${stream} came after a later one`)
      sum.lost += lost
      sum.duplicates += tracker.duplicates
      sum.outOfOrder += tracker.outOfOrder
    }
    if (this.#misdelivered > 0) notes.push(`${this.#misdelivered} messages came that were not for this client`)
    sum.misdelivered += this.#misdelivered
    for (const ledger of this.#ledgers.values()) sum.seqFaults += seqFaults(ledger, notes)
    sum.ackFaults += this.#ackFaults(notes)
    if (this.#ended !== undefined) {
      notes.push(`the connection ended: ${this.#ended}`)
      sum.connectionsLost++
    }
  }

  #ackFaults(notes: string[]): number {
    const missing = this.options.dialect === 'parley' ? this.#acks.lost(this.sent) : 0
    const unconfirmed = this.inFlight
    const strayPubacks = this.#packetIds.strays
    if (this.#refusedAcks > 0) notes.push(`${this.#refusedAcks} sends were not acked plainly, the first: ${this.#firstAckFault}`)
    if (missing > 0) notes.push(`${missing} of ${this.sent} sends got no ack message`)
    if (this.#acks.duplicates > 0) notes.push(`${this.#acks.duplicates} sends were acked twice`)
    if (unconfirmed > 0) notes.push(`${unconfirmed} sends got no PUBACK`)
    if (this.#acts.size > 0) notes.push(`${this.#acts.size} recalls, edits or reactions got no ack message`)
    if (this.#due.length > 0) notes.push(`${this.#due.length} sends were due and could not be made`)
    if (strayPubacks > 0) notes.push(`${strayPubacks} PUBACKs were for nothing that was sent`)
    return this.#acts.size + this.#refusedAcks + missing + this.#acks.duplicates + unconfirmed + this.#due.length + strayPubacks
  }

  #ledger(conv: string): SeqLedger {
    let ledger = this.#ledgers.get(conv)
    if (ledger === undefined) {
      ledger = new SeqLedger()
      this.#ledgers.set(conv, ledger)
    }
    return ledger
  }

  /** Entries without a stamp are those of a group about itself, and recalls, edits and reactions. */
  #ledgerOfEntry(bytes: Buffer, start: number, end: number): SeqLedger {
    if (this.plan.convOf === undefined) return this.#ledger(everything)
    const { group, from } = JSON.parse(bytes.toString('utf8', start, end)) as { group?: string; from?: string }
    return this.#ledger(group === undefined ? `u/${from}` : `g/${group}`)
  }

  /** The streams take turns. */
  #sendNext(): void {
    const lanes = this.#lanes
    for (let tries = 0; tries < lanes.length; tries++) {
      const at = this.#nextLane
      this.#nextLane = (at + 1) % lanes.length
      if ((lanes[at] as Lane).sent < this.#quota) return this.#send(at, stampNow())
    }
    this.#sending = false
  }

  #send(at: number, stamp: number): void {
    const lane = this.#lanes[at] as Lane
    const packetId = this.#packetIds.claim()
    const [number, idNumber] = [lane.sent++, this.sent++]
    if (this.#lanes.length > 1 && this.options.dialect === 'parley') this.#laneOf.set(idNumber, at)
    const { template } = lane
    this.client.append(template.bytes, (target, to) => template.write(target, to, number, packetId, stamp, idNumber))
  }
}

function seqFaults(ledger: SeqLedger, notes: string[]): number {
  const { notIncreasing, withoutSeq } = ledger
  const isComplete = ledger.isComplete()
  if (notIncreasing > 0) notes.push(`${notIncreasing} deliveries had a seq that was not above the one before`)
  if (withoutSeq > 0) notes.push(`${withoutSeq} deliveries had no seq`)
  if (!isComplete) notes.push(`the seqs of deliveries and own acks have gaps or repeats: ${ledger.describe()}`)
  return notIncreasing + withoutSeq + (isComplete ? 0 : 1)
}
