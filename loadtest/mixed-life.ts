/**
 * What the users of scenario `mixed` do: send at a rate, the busy ones more than the quiet ones, write for a while before, recall, edit
 * and react, move read positions, look things up, and leave and come back. All of it happens at given rates, whatever the broker does. On a
 * plain broker they only send, leave and come back.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Calls } from './calls.js'
import type { Connector } from './connector.js'
import type { Faults } from './faults.js'
import { LatencyHistogram } from './latency-histogram.js'
import { Pacer } from './pacer.js'
import type { Dialect, Participant } from './participant.js'
import type { MixedShape } from './scenarios/mixed.js'
import { createRandom, type Random, WeightedPick } from './scenarios/random.js'
import { elapsedMicros, stampNow } from './stamp.js'

const picksMax = 20
const notesMax = 20
const actTypes = ['recall', 'edit', 'reaction', 'reaction', 'reaction'] as const

interface User {
  participant: Participant
  direct: number[]
  groups: number[]
  /** The last seq heard of each conversation: cursors of `sync`. */
  seen: Map<string, number>
  isAway: boolean
  isCalling: boolean
  readsUnderWay: number
}

export interface LifeOptions {
  /** Share of all activity that falls to this process, 0…1. */
  part: number
  process: number
  rampMs: number
  /** Messages per second of this process. */
  rate: number
  connector: Connector
  dialect: Dialect
}

export class MixedLife {
  readonly messages: Pacer
  readonly calls: Calls
  readonly acts = new LatencyHistogram()
  readonly ready = new LatencyHistogram()
  reads = 0
  typing = 0
  leaves = 0
  away = 0
  #faults = 0
  #lost = 0
  readonly #notes: string[] = []
  #isMarked = false
  #isStopped = false
  #users: User[] = []
  #pick = new WeightedPick([])
  readonly #userOf = new Map<Participant, User>()
  /** Conversations with something unread, oldest first. */
  readonly #unread = new Map<string, { user: User; conv: string; seq: number }>()
  readonly #absences = new Set<Promise<void>>()
  readonly #others: Pacer[]
  readonly #random: Random

  constructor(
    readonly shape: MixedShape,
    readonly options: LifeOptions,
  ) {
    const { part, rampMs, rate, process, dialect } = options
    this.#random = createRandom(shape.seed + process + 1)
    this.calls = new Calls(this.#random)
    const phase = this.#random()
    const pacer = (perSecond: number, fire: (stamp: number) => void): Pacer => new Pacer({ perSecond, rampMs, phase, fire })
    this.messages = pacer(rate, (stamp) => this.#send(stamp))
    this.#others = [pacer(shape.leavesPerSecond * part, () => this.#leave())]
    if (dialect === 'parley') {
      this.#others.push(pacer(shape.readsPerSecond * part, () => this.#read()))
      this.#others.push(pacer(shape.callsPerSecond * part, (stamp) => this.#call(stamp)))
      this.#others.push(pacer(shape.typingPerSecond * part, () => this.#type()))
      this.#others.push(pacer(shape.actsPerSecond * part, (stamp) => this.#act(stamp)))
    }
  }

  start(participants: readonly Participant[]): void {
    this.#users = participants.map((participant) => {
      const lanes = participant.plan.sends.map(({ topic }, index) => ({ isGroup: topic.startsWith('g/'), index }))
      const indexes = (isGroup: boolean): number[] => lanes.filter((lane) => lane.isGroup === isGroup).map(({ index }) => index)
      const [direct, groups] = [indexes(false), indexes(true)]
      return { participant, direct, groups, seen: new Map(), isAway: false, isCalling: false, readsUnderWay: 0 }
    })
    for (const user of this.#users) this.#userOf.set(user.participant, user)
    this.#pick = new WeightedPick(this.#users.map(({ participant: { plan } }) => (plan.sends.length > 0 ? plan.weight : 0)))
    for (const pacer of [this.messages, ...this.#others]) pacer.start()
  }

  mark(): void {
    this.#isMarked = true
  }

  /** Resolves when everybody is back, or at the deadline. */
  async stop(deadlineMs: number): Promise<void> {
    for (const pacer of [this.messages, ...this.#others]) pacer.stop()
    this.#isStopped = true
    const isBusy = (): boolean =>
      this.#absences.size > 0 || this.#users.some(({ isCalling, readsUnderWay }) => isCalling || readsUnderWay > 0)
    while (isBusy() && performance.now() < deadlineMs) await sleep(20)
  }

  delivered(participant: Participant, conv: string, seq: number): void {
    const user = this.#userOf.get(participant)
    if (user === undefined || seq < 0) return
    user.seen.set(conv, seq)
    const key = `${participant.plan.user} ${conv}`
    const unread = this.#unread.get(key)
    if (unread === undefined) this.#unread.set(key, { user, conv, seq })
    else unread.seq = seq
  }

  addFaults(sum: Faults, notes: string[]): void {
    sum.rpcFaults += this.#faults
    sum.connectionsLost += this.#lost
    notes.push(...this.#notes)
  }

  #send(stamp: number): void {
    const user = this.#somebody('busy')
    if (user === undefined) return
    user.participant.offer(this.#laneOf(user), stamp)
  }

  /** The first friends and groups are written to most. */
  #laneOf({ direct, groups }: User): number {
    const toGroup = direct.length === 0 || (groups.length > 0 && this.#random() < this.shape.groupShare)
    const lanes = toGroup ? groups : direct
    return lanes[Math.floor(this.#random() ** 2 * lanes.length)] as number
  }

  /** Only where there is a conversation: with others it is refused. */
  #type(): void {
    const user = this.#somebody('busy')
    const lane = user?.participant.plan.sends[this.#laneOf(user)]
    const conv = lane?.topic.slice(0, lane.topic.lastIndexOf('/')) ?? ''
    if (user === undefined || !user.seen.has(conv)) return
    user.participant.client.signal(`${conv}/typing`, '')
    this.typing++
  }

  #act(stamp: number): void {
    const user = this.#somebody('busy')
    const type = actTypes[Math.floor(this.#random() * actTypes.length)] as (typeof actTypes)[number]
    const acting = user?.participant.act(type)
    if (user === undefined || acting === undefined) return
    user.readsUnderWay++
    const recorded = acting.then(() => {
      if (this.#isMarked) this.acts.record(elapsedMicros(stamp, stampNow()))
    })
    this.#watch(recorded, `a ${type}`, () => user.readsUnderWay--)
  }

  #read(): void {
    for (const [key, { user, conv, seq }] of this.#unread) {
      if (user.isAway) continue
      this.#unread.delete(key)
      user.readsUnderWay++
      const reading = user.participant.client.publish(`${conv}/read`, JSON.stringify({ seq }))
      this.#watch(reading, 'a read position', () => user.readsUnderWay--)
      this.reads++
      return
    }
  }

  #call(stamp: number): void {
    const user = this.#somebody('any')
    if (user === undefined || user.isCalling || user.seen.size === 0) return
    user.isCalling = true
    const calling = this.calls.make(user).then((kind) => {
      if (this.#isMarked) this.calls.record(kind, elapsedMicros(stamp, stampNow()))
    })
    this.#watch(calling, 'a call', () => {
      user.isCalling = false
    })
  }

  #leave(): void {
    const user = this.#somebody('any')
    if (user === undefined) return
    user.isAway = true
    this.leaves++
    const absence = this.#absence(user).finally(() => {
      user.isAway = false
      this.#absences.delete(absence)
    })
    this.#absences.add(absence)
  }

  async #absence(user: User): Promise<void> {
    const { participant } = user
    const deadlineMs = performance.now() + this.options.connector.job.drainMs
    while ((!participant.isSettled() || user.isCalling || user.readsUnderWay > 0) && performance.now() < deadlineMs) await sleep(10)
    await participant.client.disconnect()
    this.away++
    try {
      const backMs = performance.now() + this.shape.awayMs
      while (!this.#isStopped && performance.now() < backMs) await sleep(Math.min(50, this.shape.awayMs))
      const { readyMicros, truncated } = await this.options.connector.return(
        participant,
        performance.now() + this.options.connector.job.drainMs,
      )
      if (readyMicros !== undefined && this.#isMarked) this.ready.record(readyMicros)
      if (truncated !== undefined) this.#note(`${participant.plan.user}: the broker cut the backlog: ${truncated}`)
    } catch (error) {
      this.#lost++
      this.#note(`${participant.plan.user} did not come back: ${error instanceof Error ? error.message : String(error)}`)
    } finally {
      this.away--
    }
  }

  /** Somebody who is there; `busy` prefers those who are busy. */
  #somebody(how: 'busy' | 'any'): User | undefined {
    for (let picks = 0; picks < picksMax; picks++) {
      const at = how === 'busy' ? this.#pick.pick(this.#random()) : Math.floor(this.#random() * this.#users.length)
      const user = this.#users[at]
      if (user !== undefined && !user.isAway && (how === 'any' || user.participant.plan.sends.length > 0)) return user
    }
    return this.#users.find((user) => !user.isAway && user.participant.plan.sends.length > 0)
  }

  #note(what: string): void {
    if (this.#notes.length < notesMax) this.#notes.push(what)
  }

  #watch(work: Promise<void>, what: string, ended: () => void): void {
    const failed = (error: unknown): void => {
      this.#faults++
      this.#note(`${what} failed: ${error instanceof Error ? error.message : String(error)}`)
    }
    work.catch(failed).finally(ended)
  }
}
