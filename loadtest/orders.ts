/** What the load tool and its load processes say to each other. Each order is answered once; several may be under way. */

import type { CallKind } from './calls.js'
import type { Faults } from './faults.js'
import type { HistogramSnapshot } from './latency-histogram.js'
import type { Dialect } from './participant.js'
import type { ScenarioOptions } from './scenarios/plan.js'
import type { Endpoint } from './wire.js'

/** Everything that a load process needs to know; sent with `connect`. */
export interface LoadJob extends ScenarioOptions {
  /** Of the broker's nodes; the client at place n of the plan begins at the endpoint n modulo their number. */
  endpoints: readonly Endpoint[]
  dialect: Dialect
  /** Secret that the tokens are signed with; needed by Parley only. */
  secret: string
  /** Keeps the users of this run apart from those of all other runs. */
  prefix: string
  inFlight: number
  bodyBytes: number
  /** Sessions with clean=false. */
  persistent: boolean
  /** Messages per second of all processes together: an open loop; absent: a closed one. */
  rate?: number
  rampMs: number
  /** This process takes the clients with `share % processes === process`. */
  process: number
  processes: number
  drainMs: number
}

/** Totals since the start of the load. */
export interface Reading {
  atMs: number
  confirmed: number
  /** By clients that were not frozen. */
  delivered: number
  deliveredToFrozen: number
  latency: HistogramSnapshot
  cpuSeconds: number
  connected: number
}

export interface Audit {
  faults: Faults
  notes: string[]
  /** Messages delivered to all clients of the process, frozen ones included, from the first to the last. */
  delivered: number
  sent: number
  /** Of messages sent, or scheduled, since the order `mark`, frozen clients left out. */
  latency: HistogramSnapshot
  /** How late the load process made the sends of an open loop. */
  lateness: HistogramSnapshot
  /** What users did besides sending (`mixed`). */
  calls: Partial<Record<CallKind, HistogramSnapshot>>
  reads: number
  leaves: number
  /** Of recalls, edits and reactions, until PUBACK. */
  acts: HistogramSnapshot
  typing: number
  heard: { typing: number; receipt: number }
  /** From coming back to the event `ready`. */
  ready: HistogramSnapshot
}

/** Times on the clock that all processes of a machine share. */
export interface ConnectResult {
  startedMs: number
  endedMs: number
  connected: number
  /** From the CONNECT, the TCP handshake included, to the CONNACK. */
  connack: HistogramSnapshot
  retries: number
}

export interface ReturnResult extends ConnectResult {
  /** From the CONNECT to the event `ready`; empty on brokers that have none. */
  ready: HistogramSnapshot
}

/** Stream numbers and how much was sent on each. */
export type SentCounts = [stream: number, sent: number][]

export interface Orders {
  /** Connects so many other users, who leave again. */
  'connect-first': { give: { job: LoadJob; count: number }; get: null }
  /** Connects every client of the process; offline ones leave again. */
  connect: { give: LoadJob; get: ConnectResult }
  /** Creates the groups that clients of this process own. */
  prepare: { give: null; get: null }
  /** Starts sending: at a rate, or as a closed loop that ends after `quota` messages on each stream, if it is given. */
  start: { give: { quota?: number }; get: null }
  /** Begins the measured window. */
  mark: { give: null; get: null }
  read: { give: null; get: Reading }
  freeze: { give: null; get: null }
  thaw: { give: null; get: null }
  /** Cuts all connections, or those to one node, which is gone then; resolves with their number. */
  cut: { give: { node?: number }; get: number }
  /** Brings returning or cut sessions back, over the given time, and answers when each has all that waited for it. */
  return: { give: { withinMs: number; messages: number }; get: ReturnResult }
  /** Ends sending and waits for what is outstanding. */
  stop: { give: null; get: SentCounts }
  /** Waits for all deliveries, counts the faults and disconnects. */
  drain: { give: SentCounts; get: Audit }
}

export type OrderName = keyof Orders
export type Order = { [Name in OrderName]: { id: number; order: Name; give: Orders[Name]['give'] } }[OrderName]
export type Answer = { id: number } & ({ ok: true; get: Orders[OrderName]['get'] } | { ok: false; error: string })
