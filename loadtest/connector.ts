/** Opens the connections of a load process, and opens them again for sessions that come back. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Identity } from './frames.js'
import { LeanClient } from './lean-client.js'
import type { LoadJob } from './orders.js'
import type { Participant } from './participant.js'
import type { ClientPlan } from './scenarios/plan.js'
import { createTokenSigner } from './token.js'
import type { Endpoint } from './wire.js'

const device = 'load'
const retryMs = 50
/** A client library tries again after a second or so. */
const firstTries = 4
const firstRetryMs = 1_000
const truncatedField = /"truncated":\{.*/

export interface Back {
  connackMicros: number
  /** Undefined on brokers that do not say when a session has its backlog. */
  readyMicros: number | undefined
  retries: number
  /** What the broker says that it left out. */
  truncated: string | undefined
}

const microsSince = (startedMs: number): number => (performance.now() - startedMs) * 1000

export class Connector {
  readonly #sign: (user: string) => string
  /** By user; for one connect. */
  readonly #tokens = new Map<string, string>()
  #avoided: number | undefined

  constructor(readonly job: LoadJob) {
    this.#sign = createTokenSigner(job.secret)
  }

  /** Signs their tokens ahead, as an app's server does, so that connecting does not wait for this process to sign. */
  signFor(plans: readonly ClientPlan[]): void {
    if (this.job.dialect === 'parley') for (const { user } of plans) this.#tokens.set(user, this.#sign(user))
  }

  /** The node that a client is at, or goes to. */
  nodeOf({ place = 0 }: ClientPlan): number {
    const count = this.job.endpoints.length
    const node = place % count
    if (node !== this.#avoided) return node
    const others = Math.floor(place / count) % (count - 1)
    return others < node ? others : others + 1
  }

  /** A node that is gone: its clients go to the others. */
  avoid(node: number): void {
    this.#avoided = node
  }

  #endpointOf(plan: ClientPlan): Endpoint {
    return this.job.endpoints[this.nodeOf(plan)] as Endpoint
  }

  async connect(plan: ClientPlan): Promise<{ client: LeanClient; micros: number }> {
    const startedMs = performance.now()
    const client = new LeanClient(this.#endpointOf(plan), plan.user)
    try {
      await client.connect(this.#identity(plan))
    } catch (error) {
      client.abort()
      throw error
    }
    return { client, micros: microsSince(startedMs) }
  }

  /** As `connect`; tries again some times when it fails. The time counts from the first try. */
  async connectPatiently(plan: ClientPlan): Promise<{ client: LeanClient; micros: number; retries: number }> {
    const startedMs = performance.now()
    for (let retries = 0; ; retries++) {
      try {
        const { client } = await this.connect(plan)
        return { client, micros: microsSince(startedMs), retries }
      } catch (error) {
        if (retries + 1 >= firstTries) throw error
        await sleep(firstRetryMs * (1 + Math.random()))
      }
    }
  }

  /** On Parley only what is opt-in needs to be subscribed; nothing where the session has kept its subscriptions. */
  async subscribe(plan: ClientPlan, client: LeanClient, session: 'session-present' | 'new-session'): Promise<void> {
    for (const filter of this.job.dialect === 'parley' ? (plan.optIn ?? []) : []) await client.subscribe(filter)
    if (this.job.dialect === 'parley' || session === 'session-present') return
    for (const inbox of plan.inboxes) await client.subscribe(inbox)
  }

  /** Tries until the deadline (performance.now); the times count from the first try. */
  async return(participant: Participant, deadlineMs: number): Promise<Back> {
    const startedMs = performance.now()
    for (let retries = 0; ; retries++) {
      const client = new LeanClient(this.#endpointOf(participant.plan), participant.plan.user, Math.max(1, deadlineMs - performance.now()))
      participant.attach(client)
      try {
        return { ...(await this.#tryReturn(participant.plan, client, startedMs)), retries }
      } catch (error) {
        client.abort()
        if (performance.now() + retryMs >= deadlineMs) throw error
        await sleep(retryMs * (1 + Math.random()))
      }
    }
  }

  async #tryReturn(plan: ClientPlan, client: LeanClient, startedMs: number): Promise<Omit<Back, 'retries'>> {
    const readyEvent = this.job.dialect === 'plain' ? undefined : client.ready()
    const ready = readyEvent?.then((event) => ({ event, micros: microsSince(startedMs) }))
    const connack = client.connect(this.#identity(plan)).then((session) => ({ session, micros: microsSince(startedMs) }))
    const [connected, end] = await Promise.all([connack, ready])
    await this.subscribe(plan, client, connected.session)
    return {
      connackMicros: connected.micros,
      readyMicros: end?.micros,
      truncated: end === undefined ? undefined : truncatedField.exec(end.event)?.[0],
    }
  }

  #identity({ user, role }: ClientPlan): Identity {
    const clean = !this.job.persistent && role !== 'offline' && role !== 'returning'
    if (this.job.dialect === 'plain') return { clientId: `${user}-${device}`, clean }
    return { clientId: device, clean, username: user, password: this.#tokenOf(user) }
  }

  #tokenOf(user: string): string {
    const token = this.#tokens.get(user) ?? this.#sign(user)
    this.#tokens.delete(user)
    return token
  }
}
