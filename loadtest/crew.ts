/** All clients of one load process, and what they do in each phase of a run. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Connector } from './connector.js'
import { type Faults, noFaults } from './faults.js'
import { inParallel } from './in-parallel.js'
import { LatencyHistogram } from './latency-histogram.js'
import { callMethod } from './method-call.js'
import { MixedLife } from './mixed-life.js'
import type { Audit, ConnectResult, LoadJob, Orders, Reading, ReturnResult, SentCounts } from './orders.js'
import { Pacer } from './pacer.js'
import { createReaders, Participant, type ParticipantOptions, type Readers } from './participant.js'
import { planBacklog } from './scenarios/backlog.js'
import { planDirect } from './scenarios/direct.js'
import { planGroup } from './scenarios/group.js'
import { planMixed } from './scenarios/mixed.js'
import type { ClientPlan, Plan } from './scenarios/plan.js'
import { Tally } from './tally.js'

/** Each client pings once in so many seconds; they take turns. */
const pingTurns = 60
/** How long a late duplicate is waited for once everything has arrived. */
const graceMs = 300
const notesMax = 20
const groupMembersPerCall = 500

function planFor(job: LoadJob): Plan {
  const echo = job.dialect === 'plain' ? 'echo' : 'no-echo'
  if (job.scenario === 'group') return planGroup(job, job.prefix, echo)
  if (job.scenario === 'backlog') return planBacklog(job, job.prefix)
  if (job.mixed !== undefined) return planMixed(job.clients, job.mixed, job.prefix, echo)
  return planDirect(job, job.prefix)
}

/** A clock that all processes of the machine share. */
const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

export class Crew {
  readonly #job: LoadJob
  readonly #plan: Plan
  readonly #mine: ClientPlan[]
  readonly #connector: Connector
  readonly #participants: Participant[] = []
  readonly #online = new Tally()
  readonly #frozen = new Tally()
  readonly #faults = noFaults()
  readonly #notes: string[] = []
  readonly #pacer: Pacer | undefined
  readonly #life: MixedLife | undefined
  readonly #starting: NodeJS.Timeout[] = []
  #senders: Participant[] = []
  #cut: Participant[] = []
  #turn = 0
  #connected = 0
  #pinger: NodeJS.Timeout | undefined

  constructor(job: LoadJob) {
    this.#job = job
    this.#plan = planFor(job)
    this.#plan.clients.forEach((client, place) => Object.assign(client, { place }))
    const { processes, process, rate, rampMs } = job
    this.#mine = this.#plan.clients.filter(({ share }) => share % processes === process)
    this.#connector = new Connector(job)
    const weightOf = (clients: ClientPlan[]): number => clients.reduce((sum, { sends, weight }) => sum + (sends.length > 0 ? weight : 0), 0)
    const part = weightOf(this.#mine) / Math.max(Number.MIN_VALUE, weightOf(this.#plan.clients))
    if (job.mixed !== undefined) {
      this.#life = new MixedLife(job.mixed, {
        part,
        process,
        rampMs,
        rate: (rate ?? 0) * part,
        connector: this.#connector,
        dialect: job.dialect,
      })
    } else if (rate !== undefined) {
      this.#pacer = new Pacer({ perSecond: rate * part, rampMs, phase: process / processes, fire: (stamp) => this.#fire(stamp) })
    }
  }

  async connect(): Promise<ConnectResult> {
    this.#connector.signFor(this.#mine)
    const startedMs = nowMs()
    const connack = new LatencyHistogram()
    const subscribing: Participant[] = []
    let retries = 0
    const readers = createReaders(this.#job.dialect)
    // From the first connect on: the last of many thousands may come after the first ones' time is over.
    this.#keepAlive(subscribing)
    await inParallel(this.#mine, async (plan) => {
      const { client, micros, retries: times } = await this.#connector.connectPatiently(plan)
      connack.record(micros)
      retries += times
      this.#connected++
      const tally = plan.role === 'frozen' ? this.#frozen : this.#online
      subscribing.push(new Participant(plan, client, this.#participantOptions(readers, tally)))
    })
    const endedMs = nowMs()
    this.#keepAlive(this.#participants)
    await inParallel(subscribing, async (participant) => {
      await this.#connector.subscribe(participant.plan, participant.client, 'new-session')
      const { role } = participant.plan
      if (role === 'offline' || role === 'returning') await participant.client.disconnect()
      if (role !== 'offline') this.#participants.push(participant)
    })
    return { startedMs, endedMs, connected: this.#mine.length, connack: connack.snapshot(), retries }
  }

  /** All members have been connected once. */
  async prepare(): Promise<void> {
    if (this.#job.dialect === 'plain') return
    for (const { id, owner, members } of this.#plan.groups) {
      const client = this.#participants.find(({ plan }) => plan.user === owner)?.client
      if (client === undefined) continue
      await callMethod(client, 'group.create', { group: id, name: 'load test', members: members.slice(0, groupMembersPerCall) })
      for (let at = groupMembersPerCall; at < members.length; at += groupMembersPerCall) {
        await callMethod(client, 'group.add', { group: id, users: members.slice(at, at + groupMembersPerCall) })
      }
    }
  }

  start(quota?: number): void {
    this.#life?.start(this.#participants)
    if (this.#life !== undefined) return
    this.#senders = this.#participants.filter(({ plan }) => plan.sends.length > 0)
    if (this.#pacer !== undefined && quota === undefined) this.#pacer.start()
    else {
      // In a ramp the closed loops open one after the other.
      const stepMs = this.#job.rampMs / Math.max(1, this.#senders.length)
      this.#senders.forEach((sender, index) => {
        if (stepMs === 0) sender.start(quota)
        else this.#starting.push(setTimeout(() => sender.start(quota), stepMs * index))
      })
    }
  }

  mark(): void {
    this.#online.mark()
    this.#life?.mark()
  }

  freeze(): void {
    for (const { plan, client } of this.#participants) if (plan.role === 'frozen') client.freeze()
  }

  thaw(): void {
    for (const { plan, client } of this.#participants) if (plan.role === 'frozen') client.thaw()
  }

  /** Of one node, or of all. */
  cut(node: number | undefined): number {
    const cut = this.#participants.filter(({ plan }) => node === undefined || this.#connector.nodeOf(plan) === node)
    for (const { client } of cut) client.cut()
    if (node !== undefined) this.#connector.avoid(node)
    this.#cut = cut
    this.#connected -= cut.length
    return cut.length
  }

  async return({ withinMs, messages }: Orders['return']['give']): Promise<ReturnResult> {
    const returning = this.#job.scenario === 'backlog' ? this.#participants.filter(({ plan }) => plan.role === 'returning') : this.#cut
    const [connack, ready] = [new LatencyHistogram(), new LatencyHistogram()]
    const startedMs = nowMs()
    const deadlineMs = performance.now() + withinMs + this.#job.drainMs
    const expected = this.#online.delivered + returning.length * messages
    let retries = 0
    await Promise.all(
      returning.map(async (participant, index) => {
        if (withinMs > 0) await sleep((withinMs * index) / returning.length)
        try {
          const back = await this.#connector.return(participant, deadlineMs)
          retries += back.retries
          connack.record(back.connackMicros)
          if (back.readyMicros !== undefined) ready.record(back.readyMicros)
          if (back.truncated !== undefined) this.#note(`the broker cut the backlog: ${back.truncated}`)
          this.#connected++
        } catch (error) {
          this.#faults.connectionsLost++
          this.#note(`did not come back: ${error instanceof Error ? error.message : String(error)}`)
        }
      }),
    )
    // A plain broker does not say when a session has everything.
    while (this.#online.delivered < expected && performance.now() < deadlineMs) await sleep(2)
    return { startedMs, endedMs: nowMs(), connected: connack.count, connack: connack.snapshot(), ready: ready.snapshot(), retries }
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
      connected: this.#connected - (this.#life?.away ?? 0),
    }
  }

  async stop(): Promise<SentCounts> {
    for (const timer of this.#starting) clearTimeout(timer)
    this.#pacer?.stop()
    for (const participant of this.#participants) participant.stop()
    await this.#life?.stop(performance.now() + this.#job.drainMs)
    await this.#until((participant) => participant.isSettled())
    return this.#participants.flatMap((participant) => participant.counts())
  }

  async drain(counts: SentCounts): Promise<Audit> {
    const sentOn = new Map(counts)
    if (await this.#until((participant) => participant.hasAll(sentOn))) await sleep(graceMs)
    const audit: Audit = {
      faults: this.#faults,
      notes: this.#notes,
      delivered: this.#online.delivered + this.#frozen.delivered,
      sent: this.#participants.reduce((sum, { sent }) => sum + sent, 0),
      latency: this.#online.sinceMark.snapshot(),
      lateness: (this.#life?.messages ?? this.#pacer)?.lateness.snapshot() ?? [],
      calls: this.#life?.calls.snapshots() ?? {},
      reads: this.#life?.reads ?? 0,
      acts: this.#life?.acts.snapshot() ?? [],
      typing: this.#life?.typing ?? 0,
      heard: {
        typing: this.#participants.reduce((sum, { heardOf }) => sum + heardOf.typing, 0),
        receipt: this.#participants.reduce((sum, { heardOf }) => sum + heardOf.receipt, 0),
      },
      leaves: this.#life?.leaves ?? 0,
      ready: this.#life?.ready.snapshot() ?? [],
    }
    this.#life?.addFaults(audit.faults, audit.notes)
    for (const participant of this.#participants) addFaultsOf(participant, sentOn, audit.faults, audit.notes)
    audit.notes.splice(notesMax)
    clearInterval(this.#pinger)
    for (const { client } of this.#participants) client.abort()
    return audit
  }

  #participantOptions(readers: Readers, tally: Tally): ParticipantOptions {
    const { dialect, inFlight, bodyBytes } = this.#job
    const life = this.#life
    const options = { dialect, inFlight, bodyBytes, readers, tally }
    return life === undefined ? options : { ...options, onDelivered: (who, conv, seq) => life.delivered(who, conv, seq) }
  }

  /** Senders of an open loop take turns. */
  #fire(stamp: number): void {
    this.#senders[this.#turn++ % this.#senders.length]?.offer(0, stamp)
  }

  #note(what: string): void {
    if (this.#notes.length < notesMax) this.#notes.push(what)
  }

  /** Pings a part of the clients each second, so that keeping them alive costs the same all the time. */
  #keepAlive(participants: readonly Participant[]): void {
    clearInterval(this.#pinger)
    let turn = 0
    this.#pinger = setInterval(() => {
      turn = (turn + 1) % pingTurns
      for (let at = turn; at < participants.length; at += pingTurns) participants[at]?.client.ping()
    }, 1000)
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

function addFaultsOf(participant: Participant, sentOn: ReadonlyMap<number, number>, sum: Faults, notes: string[]): void {
  const own: string[] = []
  participant.faults(sentOn, sum, own)
  notes.push(...own.map((note) => `${participant.plan.user}: ${note}`))
}
