/** One run: a fresh broker, the load processes, the phases from connect to drain, and the figures that come out. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { LatencyHistogram } from './latency-histogram.js'
import { LoadProcess } from './load-process.js'
import type { LoadOptions } from './options.js'
import type { LoadJob, Orders, Reading } from './orders.js'
import { type Faults, noFaults } from './participant.js'
import type { Broker } from './peers/broker.js'
import { MemoryWatch, readProcessStats } from './process-stats.js'
import type { Progress } from './progress.js'

/** What one run measured. Rates are per second; latencies from send to delivery, in milliseconds. */
export interface Figures {
  messagesPerSecond: number
  deliveriesPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Cores that the broker and the load processes used; near 1 says which of them is the limit. */
  brokerCores?: number
  loadCores: number
  brokerCpuMicrosPerDelivery?: number
  loadCpuMicrosPerDelivery: number
  brokerRssPeakMb?: number
  /** Only with frozen members: deliveries/s to the others before, and how much memory the broker took on meanwhile. */
  deliveriesPerSecondBeforeFreeze?: number
  brokerRssGrowthWhileFrozenMb?: number
  seconds: number
  sent: number
  delivered: number
  faults: Faults
  notes: string[]
}

interface Window {
  seconds: number
  confirmed: number
  delivered: number
  latency: LatencyHistogram
  loadCpuSeconds: number
  brokerCpuSeconds: number | undefined
}

class Run {
  readonly #load: LoadProcess[]

  constructor(
    readonly options: LoadOptions,
    readonly broker: Broker,
    readonly progress: Progress,
  ) {
    this.#load = Array.from({ length: options.processes }, () => new LoadProcess(options.loadNodeArgs))
  }

  async measure(): Promise<Figures> {
    const { options } = this
    this.progress.phase('connecting')
    await Promise.all(this.#load.map((load, process) => load.order('connect', this.#job(process))))
    await this.#load[0]?.order('prepare', null)
    await this.#all('start')
    await this.#pass('warming up', options.warmupSeconds)
    const before = options.frozen > 0 ? await this.#window('measuring before the freeze', options.seconds / 2) : undefined
    if (before !== undefined) await this.#all('freeze')
    const memory = new MemoryWatch(this.broker.pid)
    const rssBefore = await memory.start()
    const window = await this.#window(before === undefined ? 'measuring' : 'measuring with frozen members', options.seconds)
    const rssPeak = await memory.stop()
    await this.#all('thaw')
    const figures = await this.#finish(window)
    if (before !== undefined) figures.deliveriesPerSecondBeforeFreeze = before.delivered / before.seconds
    if (before !== undefined && rssBefore !== undefined && rssPeak !== undefined) {
      figures.brokerRssGrowthWhileFrozenMb = (rssPeak - rssBefore) / 2 ** 20
    }
    return figures
  }

  async end(): Promise<void> {
    await Promise.all(this.#load.map((load) => load.end()))
  }

  async #finish(window: Window): Promise<Figures> {
    this.progress.phase('draining')
    const counts = (await this.#all('stop')).flat()
    const audits = await Promise.all(this.#load.map((load) => load.order('drain', counts)))
    const stats = this.broker.pid === undefined ? undefined : await readProcessStats(this.broker.pid)
    const faults = noFaults()
    for (const audit of audits) for (const kind of Object.keys(faults) as (keyof Faults)[]) faults[kind] += audit.faults[kind]
    const { seconds, confirmed, delivered, latency, loadCpuSeconds, brokerCpuSeconds } = window
    const figures: Figures = {
      messagesPerSecond: confirmed / seconds,
      deliveriesPerSecond: delivered / seconds,
      p50Ms: latency.quantile(0.5) / 1000,
      p99Ms: latency.quantile(0.99) / 1000,
      loadCores: loadCpuSeconds / seconds,
      loadCpuMicrosPerDelivery: (loadCpuSeconds * 1e6) / Math.max(1, delivered),
      seconds,
      sent: audits.reduce((sum, audit) => sum + audit.sent, 0),
      delivered: audits.reduce((sum, audit) => sum + audit.delivered, 0),
      faults,
      notes: audits.flatMap(({ notes }) => notes),
    }
    if (brokerCpuSeconds !== undefined) {
      figures.brokerCores = brokerCpuSeconds / seconds
      figures.brokerCpuMicrosPerDelivery = (brokerCpuSeconds * 1e6) / Math.max(1, delivered)
    }
    if (stats !== undefined) figures.brokerRssPeakMb = stats.rssBytesPeak / 2 ** 20
    return figures
  }

  async #window(name: string, seconds: number): Promise<Window> {
    const [first, brokerFirst] = [await this.#read(), await this.#brokerCpuSeconds()]
    await this.#pass(name, seconds)
    const [last, brokerLast] = [await this.#read(), await this.#brokerCpuSeconds()]
    const latency = new LatencyHistogram()
    for (const reading of last) latency.add(reading.latency)
    for (const reading of first) latency.add(reading.latency, -1)
    const grown = (value: (reading: Reading) => number): number =>
      last.reduce((sum, reading) => sum + value(reading), 0) - first.reduce((sum, reading) => sum + value(reading), 0)
    return {
      seconds: grown(({ atMs }) => atMs) / last.length / 1000,
      confirmed: grown(({ confirmed }) => confirmed),
      delivered: grown(({ delivered }) => delivered),
      latency,
      loadCpuSeconds: grown(({ cpuSeconds }) => cpuSeconds),
      brokerCpuSeconds: brokerFirst === undefined || brokerLast === undefined ? undefined : brokerLast - brokerFirst,
    }
  }

  async #pass(name: string, seconds: number): Promise<void> {
    const start = performance.now()
    const end = start + seconds * 1000
    this.progress.phase(name)
    for (let now = start; now < end; now = performance.now()) {
      this.progress.share((now - start) / (end - start))
      await sleep(Math.min(250, end - now))
    }
  }

  #read(): Promise<Reading[]> {
    return this.#all('read')
  }

  async #brokerCpuSeconds(): Promise<number | undefined> {
    return this.broker.pid === undefined ? undefined : (await readProcessStats(this.broker.pid))?.cpuSeconds
  }

  #all<Name extends 'start' | 'freeze' | 'thaw' | 'stop' | 'read'>(order: Name): Promise<Orders[Name]['get'][]> {
    return Promise.all(this.#load.map((load) => load.order(order, null)))
  }

  #job(process: number): LoadJob {
    const { scenario, clients, members, senders, offline, frozen, inFlight, bodyBytes, processes, drainMs } = this.options
    const { host, port, dialect, secret } = this.broker
    const sizes = { scenario, clients, members, senders, offline, frozen, inFlight, bodyBytes, processes, drainMs }
    return { ...sizes, host, port, dialect, secret, process, prefix: this.#prefix }
  }

  readonly #prefix = `load-${randomBytes(4).toString('hex')}`
}

/** Puts the load on `broker`, which the caller stops, and returns what was measured. */
export async function runOnce(options: LoadOptions, broker: Broker, progress: Progress): Promise<Figures> {
  const run = new Run(options, broker, progress)
  try {
    return await run.measure()
  } finally {
    await run.end()
  }
}
