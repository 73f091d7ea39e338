/**
 * What a scenario is: a list of clients and who hears whom. The load processes carry it out; each takes the clients whose
 * `share` falls to it. A stream is what one client sends to one topic; streams are numbered, and a message carries the number of its stream.
 */
import type { MixedShape } from './mixed.js'

export type Scenario = 'direct' | 'group' | 'connections' | 'reconnect-storm' | 'backlog' | 'mixed'

export interface Stream {
  topic: string
  number: number
}

export interface ClientPlan {
  user: string
  /** Clients of equal share are in the same load process. */
  share: number
  /** Place among all clients: which node of the broker it begins at; given by the crew. */
  place?: number
  /** Empty for those who only receive. */
  sends: Stream[]
  /** Numbers of the streams whose messages must arrive, each exactly once. */
  hears: number[]
  /** Address of the conversation in which this client hears a stream; absent when all that it hears is one conversation. */
  convOf?: (stream: number) => string
  /** Topics that deliver on brokers where one must subscribe. */
  inboxes: string[]
  /** What it subscribes to on a Parley, at each connect. */
  optIn?: string[]
  /** How much of an open loop's rate falls to this client, in any unit. */
  weight: number
  /**
   * `offline` connects once and leaves a persistent session; `returning` does so and comes back when told; `frozen` stops reading in
   * the measured phase.
   */
  role: 'online' | 'frozen' | 'offline' | 'returning'
}

export interface GroupPlan {
  id: string
  owner: string
  /** Without the owner. */
  members: string[]
}

export interface Plan {
  clients: ClientPlan[]
  /** Groups that must exist before the load starts. */
  groups: GroupPlan[]
}

/** What the command line decides about a scenario. */
export interface ScenarioOptions {
  scenario: Scenario
  clients: number
  members: number
  senders: number
  offline: number
  frozen: number
  /** Messages that wait for each returning session (`backlog`). */
  messages: number
  /** Only `mixed` has it. */
  mixed?: MixedShape
}

/** Whether a sender gets its own group messages back, as it does on a broker where it subscribes to the group's topic. */
export type Echo = 'echo' | 'no-echo'
