/**
 * What a scenario is: a list of clients and who hears whom. The load processes carry it out; each takes the clients whose
 * `share` falls to it. Senders are numbered, and a message carries the number of its sender.
 */

export interface ClientPlan {
  user: string
  /** Clients of equal share are in the same load process. */
  share: number
  /** Topic to send to and the sender's number; absent for those who only receive. */
  sends?: { topic: string; sender: number }
  /** Numbers of the senders whose messages must arrive, each exactly once. */
  hears: number[]
  /** Topic that delivers on brokers where one must subscribe. */
  inbox: string
  /** `offline` connects once and leaves a persistent session; `frozen` stops reading in the measured phase. */
  role: 'online' | 'frozen' | 'offline'
}

export interface Plan {
  clients: ClientPlan[]
  /** A group that must exist before the load starts. */
  group?: { id: string; owner: string; members: string[] }
}

/** What the command line decides about a scenario. */
export interface ScenarioOptions {
  scenario: 'direct' | 'group'
  clients: number
  members: number
  senders: number
  offline: number
  frozen: number
}
