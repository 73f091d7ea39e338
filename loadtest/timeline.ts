/** Watches a run from beside it: a sample of the load processes and of the broker each second, for the live line and the report. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LatencyHistogram } from './latency-histogram.js'
import type { Reading } from './orders.js'
import { type ProcessStats, readStatsOf } from './process-stats.js'

export interface Sample {
  /** Seconds since the run began. */
  second: number
  phase: string
  connected: number
  messagesPerSecond: number
  deliveriesPerSecond: number
  /** Of what was delivered in this second; absent when nothing was. */
  p50Ms?: number
  p99Ms?: number
  brokerCores?: number
  brokerRssMb?: number
  loadCores: number
}

const sampleMs = 1_000
/** A longer run is told in samples of two, four … seconds. */
const samplesMax = 3_600

export interface Watched {
  read(): Promise<Reading[]>
  pids(): readonly number[]
  phase(): string
  onSample(sample: Sample): void
}

interface Look {
  atMs: number
  readings: Reading[]
  stats: ProcessStats | undefined
}

export class Timeline {
  readonly samples: Sample[] = []
  readonly #startedMs = performance.now()
  #everyMs = sampleMs
  #isStopped = false
  #running: Promise<void> | undefined

  constructor(readonly watched: Watched) {}

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<Sample[]> {
    this.#isStopped = true
    await this.#running
    return this.samples
  }

  async #run(): Promise<void> {
    let last = await this.#look()
    while (!this.#isStopped) {
      const dueMs = performance.now() + this.#everyMs
      while (!this.#isStopped && performance.now() < dueMs) await sleep(Math.min(100, Math.max(1, dueMs - performance.now())))
      const next = await this.#look()
      if (last !== undefined && next !== undefined && next.atMs - last.atMs > sampleMs / 4) this.#add(last, next)
      last = next
    }
  }

  /** Undefined when a load process is gone. */
  async #look(): Promise<Look | undefined> {
    const readings = await this.watched.read().catch(() => undefined)
    return readings && { atMs: performance.now(), readings, stats: await readStatsOf(this.watched.pids()) }
  }

  #add(last: Look, next: Look): void {
    const sample = sampleBetween(last, next, (next.atMs - this.#startedMs) / 1000, this.watched.phase())
    this.samples.push(sample)
    this.watched.onSample(sample)
    if (this.samples.length < samplesMax) return
    this.#everyMs *= 2
    this.samples.splice(0, this.samples.length, ...this.samples.filter((_, index) => index % 2 === 1))
  }
}

function sampleBetween(last: Look, next: Look, second: number, phase: string): Sample {
  const seconds = (next.atMs - last.atMs) / 1000
  const sum = (look: Look, of: (reading: Reading) => number): number => look.readings.reduce((total, reading) => total + of(reading), 0)
  const rate = (of: (reading: Reading) => number): number => Math.max(0, (sum(next, of) - sum(last, of)) / seconds)
  const latency = new LatencyHistogram()
  for (const reading of next.readings) latency.add(reading.latency)
  for (const reading of last.readings) latency.add(reading.latency, -1)
  const sample: Sample = {
    second,
    phase,
    connected: sum(next, ({ connected }) => connected),
    messagesPerSecond: rate(({ confirmed }) => confirmed),
    deliveriesPerSecond: rate(({ delivered }) => delivered),
    loadCores: rate(({ cpuSeconds }) => cpuSeconds),
  }
  if (latency.count > 0) {
    sample.p50Ms = latency.quantile(0.5) / 1000
    sample.p99Ms = latency.quantile(0.99) / 1000
  }
  if (next.stats !== undefined) sample.brokerRssMb = next.stats.rssBytes / 2 ** 20
  // A broker that was started again begins at zero.
  if (next.stats !== undefined && last.stats !== undefined) {
    sample.brokerCores = Math.max(0, next.stats.cpuSeconds - last.stats.cpuSeconds) / seconds
  }
  return sample
}

/** The sample as one line for people who watch. */
export function liveLine(sample: Sample): string {
  const { connected, messagesPerSecond, deliveriesPerSecond, p99Ms, brokerCores, brokerRssMb } = sample
  const whole = (value: number): string => Math.round(value).toLocaleString('en-US')
  const parts = [`${whole(connected)} connected`]
  if (messagesPerSecond > 0) parts.push(`${whole(messagesPerSecond)} msg/s`)
  if (deliveriesPerSecond > 0) parts.push(`${whole(deliveriesPerSecond)} deliveries/s`)
  if (p99Ms !== undefined) parts.push(`p99 ${p99Ms.toFixed(1)} ms`)
  if (brokerCores !== undefined) parts.push(`broker ${Math.round(brokerCores * 100)} %`)
  if (brokerRssMb !== undefined) parts.push(`${whole(brokerRssMb)} MB`)
  return parts.join(' · ')
}
