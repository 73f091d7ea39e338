/** CPU time and memory of another process, from /proc. Undefined where there is no /proc, or no such process. */
import { readFile } from 'node:fs/promises'

const ticksPerSecond = 100
const sampleMs = 200

export interface ProcessStats {
  cpuSeconds: number
  rssBytes: number
  rssBytesPeak: number
}

export async function readProcessStats(pid: number): Promise<ProcessStats | undefined> {
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

/** Watches how much memory a process holds between `start` and `stop`. */
export class MemoryWatch {
  #peak = 0
  #timer: NodeJS.Timeout | undefined

  constructor(readonly pid: number | undefined) {}

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
    if (this.pid === undefined) return undefined
    const stats = await readProcessStats(this.pid)
    this.#peak = Math.max(this.#peak, stats?.rssBytes ?? 0)
    return stats?.rssBytes
  }
}
