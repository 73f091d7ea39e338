/**
 * What every measurement stands on: a broker, the load processes with their clients, the clock, and the audit at the end. The measures in
 * `measures/` say what happens on it.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { addFaults, noFaults } from './faults.js'
import { type Figures, latencyFigures } from './figures.js'
import { type HistogramSnapshot, LatencyHistogram } from './latency-histogram.js'
import { LoadProcess } from './load-process.js'
import type { LoadOptions } from './options.js'
import type { Audit, LoadJob, OrderName, Orders, Reading } from './orders.js'
import type { Broker, Part } from './peers/broker.js'
import { readStatsOf } from './process-stats.js'
import type { Progress } from './progress.js'
import { liveLine, Timeline } from './timeline.js'

/** What happened between two readings. */
export interface Window {
  seconds: number
  confirmed: number
  delivered: number
  latency: LatencyHistogram
  loadCpuSeconds: number
  brokerCpuSeconds: number | undefined
  /** Only of a broker that has more than its nodes. */
  partCpuSeconds: Partial<Record<Part, number>>
}

/** From so many clients on each load process of a local broker gets a source address of its own. */
const clientsPerAddress = 10_000

export function mergeHistograms(snapshots: readonly HistogramSnapshot[]): LatencyHistogram {
  const merged = new LatencyHistogram()
  for (const snapshot of snapshots) merged.add(snapshot)
  return merged
}

const parts: readonly Part[] = ['nodes', 'redis', 'store']

function grownCpu(
  first: Partial<Record<Part, number>>,
  last: Partial<Record<Part, number>>,
): Pick<Window, 'brokerCpuSeconds' | 'partCpuSeconds'> {
  const grown = parts.flatMap((part) => {
    const [before, after] = [first[part], last[part]]
    return before === undefined || after === undefined ? [] : [[part, after - before] as const]
  })
  if (grown.length === 0) return { brokerCpuSeconds: undefined, partCpuSeconds: {} }
  return {
    brokerCpuSeconds: grown.reduce((sum, [, seconds]) => sum + seconds, 0),
    partCpuSeconds: grown.length === 1 ? {} : Object.fromEntries(grown),
  }
}

export class Stage {
  readonly #load: LoadProcess[]
  readonly #prefix = `load-${randomBytes(4).toString('hex')}`
  readonly #timeline: Timeline
  #phase = ''

  constructor(
    readonly options: LoadOptions,
    readonly broker: Broker,
    readonly progress: Progress,
  ) {
    this.#load = Array.from({ length: options.processes }, () => new LoadProcess(options.loadNodeArgs))
    this.#timeline = new Timeline({
      read: () => this.all('read', null),
      pids: () => broker.pids(),
      phase: () => this.#phase,
      onSample: (sample) => progress.live(liveLine(sample)),
    })
  }

  /** Connects users who leave again, if any are wanted, so that what follows is not the first that the broker does. */
  async connectFirst(): Promise<void> {
    const count = Math.ceil(this.options.connectFirst / this.#load.length)
    if (count === 0) return
    this.phase('others connect and leave')
    await Promise.all(this.#load.map((load, process) => load.order('connect-first', { job: this.#job(process), count })))
  }

  /** Connects all clients and creates the groups; resolves with how the connecting went. */
  async connect(): Promise<Partial<Figures>> {
    this.phase('connecting')
    const connecting = Promise.all(this.#load.map((load, process) => load.order('connect', this.#job(process))))
    this.#timeline.start()
    const results = await this.#watch(connecting, ({ connected }) => connected / this.#clients)
    const connack = mergeHistograms(results.map((result) => result.connack))
    const startedMs = Math.min(...results.map((result) => result.startedMs))
    const endedMs = Math.max(...results.map((result) => result.endedMs))
    await this.all('prepare', null)
    return {
      connectsPerSecond: connack.count / ((endedMs - startedMs) / 1000),
      connackP50Ms: connack.quantile(0.5) / 1000,
      connackP99Ms: connack.quantile(0.99) / 1000,
      retries: results.reduce((sum, { retries }) => sum + retries, 0),
    }
  }

  phase(name: string): void {
    this.#phase = name
    this.progress.phase(name)
  }

  all<Name extends Exclude<OrderName, 'connect' | 'connect-first'>>(
    order: Name,
    give: Orders[Name]['give'],
  ): Promise<Orders[Name]['get'][]> {
    return Promise.all(this.#load.map((load) => load.order(order, give)))
  }

  /** Lets time pass. */
  async pass(name: string, seconds: number): Promise<void> {
    const start = performance.now()
    const end = start + seconds * 1000
    this.phase(name)
    for (let now = start; now < end; now = performance.now()) {
      this.progress.share((now - start) / (end - start))
      await sleep(Math.min(250, end - now))
    }
  }

  /** What happens while `during` runs. */
  async window(during: () => Promise<unknown>): Promise<Window> {
    const [first, partsFirst] = [await this.all('read', null), await this.#partCpuSeconds()]
    await during()
    const [last, partsLast] = [await this.all('read', null), await this.#partCpuSeconds()]
    const latency = mergeHistograms(last.map((reading) => reading.latency))
    for (const reading of first) latency.add(reading.latency, -1)
    const grown = (value: (reading: Reading) => number): number =>
      last.reduce((sum, reading) => sum + value(reading), 0) - first.reduce((sum, reading) => sum + value(reading), 0)
    return {
      seconds: grown(({ atMs }) => atMs) / last.length / 1000,
      confirmed: grown(({ confirmed }) => confirmed),
      delivered: grown(({ delivered }) => delivered),
      latency,
      loadCpuSeconds: grown(({ cpuSeconds }) => cpuSeconds),
      ...grownCpu(partsFirst, partsLast),
    }
  }

  /** Waits until the readings add up to `total`; gives up after `drainMs` without any progress, and leaves the verdict to the audit. */
  async until(name: string, total: number, of: (reading: Reading) => number): Promise<void> {
    this.phase(name)
    let [best, movedMs] = [-1, performance.now()]
    while (best < total) {
      const sum = (await this.all('read', null)).reduce((all, reading) => all + of(reading), 0)
      if (sum > best) movedMs = performance.now()
      best = Math.max(best, sum)
      this.progress.share(Math.min(1, best / total))
      if (performance.now() - movedMs > this.options.drainMs) return
      if (best < total) await sleep(20)
    }
  }

  /** Ends the load, waits for everything outstanding and judges it. */
  async finish(): Promise<{ audits: Audit[]; figures: Figures }> {
    this.phase('draining')
    const counts = (await this.all('stop', null)).flat()
    const audits = await this.all('drain', counts)
    const stats = await readStatsOf(this.broker.pids())
    const faults = noFaults()
    for (const audit of audits) addFaults(faults, audit.faults)
    const sum = (of: (audit: Audit) => number): number => audits.reduce((total, audit) => total + of(audit), 0)
    const figures: Figures = {
      seconds: 0,
      sent: sum(({ sent }) => sent),
      delivered: sum(({ delivered }) => delivered),
      faults,
      notes: audits.flatMap(({ notes }) => notes),
    }
    if (stats !== undefined) figures.brokerRssPeakMb = stats.rssBytesPeak / 2 ** 20
    figures.timeline = await this.#timeline.stop()
    return { audits, figures }
  }

  /** Latencies of everything that was sent since the mark; nothing slow is left out. */
  sinceMark(audits: readonly Audit[]): Partial<Figures> {
    const lateness = mergeHistograms(audits.map((audit) => audit.lateness))
    return {
      ...latencyFigures(mergeHistograms(audits.map((audit) => audit.latency))),
      ...(lateness.count > 0 ? { latenessP99Ms: lateness.quantile(0.99) / 1000 } : {}),
    }
  }

  async end(): Promise<void> {
    await this.#timeline.stop()
    await Promise.all(this.#load.map((load) => load.end()))
  }

  get #clients(): number {
    const { scenario, clients, members, offline, senders } = this.options
    return scenario === 'group' ? members + offline : scenario === 'backlog' ? clients + senders : clients
  }

  /** Moves the bar while `work` goes on. */
  async #watch<Result>(work: Promise<Result>, shareOf: (sum: Reading) => number): Promise<Result> {
    let isDone = false
    const done = (): void => {
      isDone = true
    }
    work.then(done, done)
    while (!isDone) {
      const readings = await this.all('read', null).catch(() => [])
      this.progress.share(
        Math.min(
          1,
          readings.reduce((sum, reading) => sum + shareOf(reading), 0),
        ),
      )
      await Promise.race([work.catch(() => undefined), sleep(250)])
    }
    return work
  }

  async #partCpuSeconds(): Promise<Partial<Record<Part, number>>> {
    const seconds = await Promise.all(parts.map(async (part) => [part, (await readStatsOf(this.broker.pids(part)))?.cpuSeconds] as const))
    return Object.fromEntries(seconds.filter(([, own]) => own !== undefined))
  }

  #job(process: number): LoadJob {
    const { scenario, clients, members, senders, offline, frozen, messages, inFlight, bodyBytes, processes, drainMs, persistent, rampMs } =
      this.options
    const sizes = {
      scenario,
      clients,
      members,
      senders,
      offline,
      frozen,
      messages,
      inFlight,
      bodyBytes,
      processes,
      drainMs,
      persistent,
      rampMs,
    }
    const { dialect, secret } = this.broker
    const endpoints = this.broker.endpoints.map((endpoint) => {
      const isLocal = endpoint.host.startsWith('127.')
      return isLocal && this.#clients > clientsPerAddress ? { ...endpoint, localAddress: `127.0.0.${process + 2}` } : endpoint
    })
    const job: LoadJob = { ...sizes, endpoints, dialect, secret, process, prefix: this.#prefix }
    if (this.options.rate !== undefined) job.rate = this.options.rate
    if (this.options.mixed !== undefined) job.mixed = this.options.mixed
    return job
  }
}
