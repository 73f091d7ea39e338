/** All clients of one load process, and what they do in each phase of a run. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LatencyHistogram } from './latency-histogram.js'
import { LeanClient } from './lean-client.js'
import type { Audit, LoadJob, Reading, SentCounts } from './orders.js'
import { createReaders, noFaults, Participant, type Tally } from './participant.js'
import { planDirect } from './scenarios/direct.js'
import { planGroup } from './scenarios/group.js'
import type { ClientPlan, Plan } from './scenarios/plan.js'
import { createTokenSigner } from './token.js'

const device = 'load'
const connectsAtOnce = 32
const pingMs = 30_000
/** How long a late duplicate is waited for once everything has arrived. */
const graceMs = 300
const notesMax = 20
const groupMembersPerCall = 500

function planFor(job: LoadJob): Plan {
  if (job.scenario === 'direct') return planDirect(job, job.prefix)
  return planGroup(job, job.prefix, job.dialect === 'plain' ? 'echo' : 'no-echo')
}

const newTally = (): Tally => ({ confirmed: 0, delivered: 0, latency: new LatencyHistogram() })

export class Crew {
  readonly #job: LoadJob
  readonly #plan: Plan
  readonly #sign: (user: string) => Promise<string>
  readonly #participants: Participant[] = []
  readonly #online = newTally()
  readonly #frozen = newTally()
  #pinger: NodeJS.Timeout | undefined

  constructor(job: LoadJob) {
    this.#job = job
    this.#plan = planFor(job)
    this.#sign = createTokenSigner(job.secret)
  }

  async connect(): Promise<void> {
    const { processes, process } = this.#job
    const mine = this.#plan.clients.filter(({ share }) => share % processes === process)
    const readers = createReaders(this.#job.dialect)
    const waiting = [...mine]
    const connectNext = async (): Promise<void> => {
      for (let plan = waiting.shift(); plan !== undefined; plan = waiting.shift()) {
        const client = await this.#open(plan)
        if (plan.role === 'offline') {
          await client.disconnect()
          continue
        }
        const tally = plan.role === 'frozen' ? this.#frozen : this.#online
        const { dialect, inFlight, bodyBytes } = this.#job
        this.#participants.push(new Participant(plan, client, { dialect, inFlight, bodyBytes, readers, tally }))
      }
    }
    await Promise.all(Array.from({ length: connectsAtOnce }, connectNext))
    this.#pinger = setInterval(() => {
      for (const { client } of this.#participants) client.ping()
    }, pingMs)
  }

  /** Creates the group, if there is one and the broker knows groups; all members have been connected once. */
  async prepare(): Promise<void> {
    const { group } = this.#plan
    if (group === undefined || this.#job.dialect === 'plain') return
    const owner = this.#participants.find(({ plan }) => plan.user === group.owner)
    if (owner === undefined) throw new Error(`${group.owner} is not a client of this process`)
    const first = group.members.slice(0, groupMembersPerCall)
    await call(owner.client, 'group.create', { group: group.id, name: 'load test', members: first })
    for (let at = groupMembersPerCall; at < group.members.length; at += groupMembersPerCall) {
      await call(owner.client, 'group.add', { group: group.id, users: group.members.slice(at, at + groupMembersPerCall) })
    }
  }

  start(): void {
    for (const participant of this.#participants) participant.start()
  }

  freeze(): void {
    for (const { plan, client } of this.#participants) if (plan.role === 'frozen') client.freeze()
  }

  thaw(): void {
    for (const { plan, client } of this.#participants) if (plan.role === 'frozen') client.thaw()
  }

  read(): Reading {
    const { user, system } = process.cpuUsage()
    return {
      atMs: performance.now(),
      confirmed: this.#online.confirmed + this.#frozen.confirmed,
      delivered: this.#online.delivered,
      deliveredToFrozen: this.#frozen.delivered,
      latency: this.#online.latency.snapshot(),
      cpuSeconds: (user + system) / 1e6,
    }
  }

  async stop(): Promise<SentCounts> {
    for (const participant of this.#participants) participant.stop()
    await this.#until((participant) => participant.isSettled())
    return this.#participants.flatMap(({ plan, sent }): SentCounts => (plan.sends === undefined ? [] : [[plan.sends.sender, sent]]))
  }

  async drain(counts: SentCounts): Promise<Audit> {
    const sentBy = new Map(counts)
    if (await this.#until((participant) => participant.hasAll(sentBy))) await sleep(graceMs)
    const audit: Audit = {
      faults: noFaults(),
      notes: [],
      delivered: this.#online.delivered + this.#frozen.delivered,
      sent: this.#participants.reduce((sum, { sent }) => sum + sent, 0),
    }
    for (const participant of this.#participants) {
      const notes: string[] = []
      participant.faults(sentBy, audit.faults, notes)
      audit.notes.push(...notes.map((note) => `${participant.plan.user}: ${note}`))
    }
    audit.notes.splice(notesMax)
    clearInterval(this.#pinger)
    for (const { client } of this.#participants) client.abort()
    return audit
  }

  async #open(plan: ClientPlan): Promise<LeanClient> {
    const { dialect, host, port } = this.#job
    const client = new LeanClient({ host, port }, plan.user)
    const clean = plan.role !== 'offline'
    if (dialect === 'parley') {
      await client.connect({ clientId: device, clean, username: plan.user, password: await this.#sign(plan.user) })
    } else {
      await client.connect({ clientId: `${plan.user}-${device}`, clean })
      await client.subscribe(plan.inbox)
    }
    return client
  }

  /** False when the deadline passed first. */
  async #until(isDone: (participant: Participant) => boolean): Promise<boolean> {
    const deadline = performance.now() + this.#job.drainMs
    while (!this.#participants.every(isDone)) {
      if (performance.now() > deadline) return false
      await sleep(20)
    }
    return true
  }
}

async function call(client: LeanClient, method: string, params: object): Promise<void> {
  const reply = await client.call(method, params)
  const parsed: unknown = JSON.parse(reply)
  if (typeof parsed !== 'object' || parsed === null || 'error' in parsed) throw new Error(`rpc/${method} was refused: ${reply}`)
}
