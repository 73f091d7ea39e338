/** What the load tool and its load processes say to each other. Each order is answered once, in order. */
import type { HistogramSnapshot } from './latency-histogram.js'
import type { Dialect, Faults } from './participant.js'
import type { ScenarioOptions } from './scenarios/plan.js'

/** Everything that a load process needs to know; sent with `connect`. */
export interface LoadJob extends ScenarioOptions {
  host: string
  port: number
  dialect: Dialect
  /** Secret that the tokens are signed with; needed by Parley only. */
  secret: string
  /** Keeps the users of this run apart from those of all other runs. */
  prefix: string
  inFlight: number
  bodyBytes: number
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
}

export interface Audit {
  faults: Faults
  notes: string[]
  /** Messages delivered to all clients of the process, frozen ones included, from the first to the last. */
  delivered: number
  sent: number
}

/** Sender numbers and how much each has sent. */
export type SentCounts = [sender: number, sent: number][]

export interface Orders {
  /** Connects every client of the process; offline ones leave again. */
  connect: { give: LoadJob; get: null }
  /** Creates the group; only one process is told to. */
  prepare: { give: null; get: null }
  start: { give: null; get: null }
  read: { give: null; get: Reading }
  freeze: { give: null; get: null }
  thaw: { give: null; get: null }
  /** Ends sending and waits for what is outstanding. */
  stop: { give: null; get: SentCounts }
  /** Waits for all deliveries, counts the faults and disconnects. */
  drain: { give: SentCounts; get: Audit }
}

export type OrderName = keyof Orders
export type Order = { [Name in OrderName]: { order: Name; give: Orders[Name]['give'] } }[OrderName]
export type Answer = { ok: true; get: Orders[OrderName]['get'] } | { ok: false; error: string }
