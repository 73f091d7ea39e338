/** CPU time and memory of another process, from /proc. Undefined where there is no /proc, or no such process. */
import { readFile } from 'node:fs/promises'

const ticksPerSecond = 100
const sampleMs = 200

export interface ProcessStats {
  cpuSeconds: number
  rssBytes: number
  rssBytesPeak: number
}

async function readProcessStats(pid: number): Promise<ProcessStats | undefined> {
  const read = (file: string): Promise<string | undefined> => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => undefined)
  const [stat, status] = await Promise.all([read('stat'), read('status')])
  if (stat === undefined || status === undefined) return undefined
  // The command name may hold spaces and stands in brackets; user and system time are the 12th and 13th field after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    rssBytes: kilobytes('VmRSS') * 1024,
    rssBytesPeak: kilobytes('VmHWM') * 1024,
  }
}

/** The sum over several processes; undefined when none of them can be read. */
export async function readStatsOf(pids: readonly number[]): Promise<ProcessStats | undefined> {
  const known = (await Promise.all(pids.map(readProcessStats))).filter((stats) => stats !== undefined)
  if (known.length === 0) return undefined
  const sum = (of: (stats: ProcessStats) => number): number => known.reduce((total, stats) => total + of(stats), 0)
  return {
    cpuSeconds: sum((stats) => stats.cpuSeconds),
    rssBytes: sum((stats) => stats.rssBytes),
    rssBytesPeak: sum((stats) => stats.rssBytesPeak),
  }
}

/** Watches how much memory processes hold between `start` and `stop`. */
export class MemoryWatch {
  #peak = 0
  #timer: NodeJS.Timeout | undefined

  constructor(readonly pids: readonly number[]) {}

  async start(): Promise<number | undefined> {
    const first = await this.#sample()
    this.#timer = setInterval(() => void this.#sample(), sampleMs)
    return first
  }

  /** The highest value seen. */
  async stop(): Promise<number | undefined> {
    clearInterval(this.#timer)
    await this.#sample()
    return this.#peak === 0 ? undefined : this.#peak
  }

  async #sample(): Promise<number | undefined> {
    const stats = await readStatsOf(this.pids)
    this.#peak = Math.max(this.#peak, stats?.rssBytes ?? 0)
    return stats?.rssBytes
  }
}
