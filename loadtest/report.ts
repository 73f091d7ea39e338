/** Turns the figures of all runs into medians and ratios, a table for people and JSON for programs. */
import { cpus } from 'node:os'
import type { LoadOptions } from './options.js'
import type { Faults } from './participant.js'
import type { Figures } from './run.js'

/** The runs of one broker, in the order in which they were made. */
export interface Series {
  broker: string
  runs: Figures[]
}

/** The figures that have a median, with their heading. The ratio says whether more or less is better. */
const columns = [
  { key: 'messagesPerSecond', heading: 'messages/s', digits: 0 },
  { key: 'deliveriesPerSecond', heading: 'deliveries/s', digits: 0 },
  { key: 'p50Ms', heading: 'p50 ms', digits: 2 },
  { key: 'p99Ms', heading: 'p99 ms', digits: 2 },
  { key: 'brokerCores', heading: 'broker cores', digits: 2 },
  { key: 'loadCores', heading: 'load cores', digits: 2 },
  { key: 'brokerCpuMicrosPerDelivery', heading: 'broker µs/delivery', digits: 2 },
  { key: 'loadCpuMicrosPerDelivery', heading: 'load µs/delivery', digits: 2 },
  { key: 'brokerRssPeakMb', heading: 'broker peak RSS MB', digits: 0 },
  { key: 'deliveriesPerSecondBeforeFreeze', heading: 'deliveries/s before freeze', digits: 0 },
  { key: 'brokerRssGrowthWhileFrozenMb', heading: 'RSS growth in freeze MB', digits: 1 },
] as const satisfies { key: keyof Figures; heading: string; digits: number }[]

type ColumnKey = (typeof columns)[number]['key']

export interface Spread {
  median: number
  min: number
  max: number
}

/** Undefined when no run has the figure. */
export function spreadOf(runs: Figures[], key: ColumnKey): Spread | undefined {
  const values = runs.map((run) => run[key]).filter((value) => value !== undefined)
  values.sort((a, b) => a - b)
  const [min, max] = [values[0], values.at(-1)]
  const [low, high] = [values[(values.length - 1) >> 1], values[values.length >> 1]]
  if (min === undefined || max === undefined || low === undefined || high === undefined) return undefined
  return { median: (low + high) / 2, min, max }
}

const summarize = ({ runs }: Series): Partial<Record<ColumnKey, Spread>> =>
  Object.fromEntries(columns.map(({ key }) => [key, spreadOf(runs, key)]).filter(([, spread]) => spread !== undefined))

/** Medians of the first series divided by those of each other one. */
function ratios([first, ...others]: Series[]): Record<string, Partial<Record<ColumnKey, number>>> {
  const keys: ColumnKey[] = ['messagesPerSecond', 'deliveriesPerSecond', 'p50Ms', 'p99Ms']
  const ratio = (other: Series, key: ColumnKey): number | undefined => {
    const [a, b] = [first && spreadOf(first.runs, key), spreadOf(other.runs, key)]
    return a === undefined || b === undefined || b.median === 0 ? undefined : a.median / b.median
  }
  return Object.fromEntries(
    others.map((other) => [
      `${first?.broker} / ${other.broker}`,
      Object.fromEntries(keys.map((key) => [key, ratio(other, key)]).filter(([, value]) => value !== undefined)),
    ]),
  )
}

export const faultCount = (faults: Faults): number => Object.values(faults).reduce((sum: number, count: number) => sum + count, 0)

const format = (value: number, digits: number): string =>
  value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** One row per figure, one column per broker; a single value when there was one run. */
export function renderTable(series: Series[]): string {
  const rows = [['', ...series.map(({ broker, runs }) => (runs.length > 1 ? `${broker} (${runs.length} runs)` : broker))]]
  for (const { key, heading, digits } of columns) {
    const cells = series.map(({ runs }) => {
      const spread = spreadOf(runs, key)
      if (spread === undefined) return '-'
      const median = format(spread.median, digits)
      return runs.length > 1 ? `${median}  (${format(spread.min, digits)}–${format(spread.max, digits)})` : median
    })
    if (cells.some((cell) => cell !== '-')) rows.push([heading, ...cells])
  }
  for (const [name, values] of Object.entries(ratios(series))) {
    const parts = Object.entries(values).map(
      ([key, value]) => `${columns.find((column) => column.key === key)?.heading} × ${format(value, 2)}`,
    )
    rows.push([name, parts.join(', ')])
  }
  const wide = (column: number): number =>
    Math.max(...rows.filter((row) => row.length > 2 || series.length === 1).map((row) => row[column]?.length ?? 0))
  const first = Math.max(...rows.map(([cell = '']) => cell.length))
  return rows
    .map(([heading = '', ...cells]) =>
      `${heading.padEnd(first)}  ${cells.map((cell, i) => cell.padStart(wide(i + 1))).join('  ')}`.trimEnd(),
    )
    .join('\n')
}

/** One line for each run: what the audit of its messages says. */
export function renderAudit(series: Series[]): string {
  const lines = series.flatMap(({ broker, runs }) =>
    runs.flatMap(({ faults, notes, sent, delivered }, index) => {
      const name = `${broker}, run ${index + 1}: ${format(sent, 0)} sent, ${format(delivered, 0)} delivered`
      if (faultCount(faults) === 0) return [`${name}: nothing lost, no duplicate, none out of order`]
      const kinds = Object.entries(faults).filter(([, count]) => count > 0)
      return [`${name}: FAULTS ${kinds.map(([kind, count]) => `${kind} ${count}`).join(', ')}`, ...notes.map((note) => `  ${note}`)]
    }),
  )
  return lines.join('\n')
}

export function toJson(options: LoadOptions, series: Series[], startedAt: Date): string {
  const { secret: _secret, ...parameters } = options
  const machine = { node: process.version, platform: process.platform, arch: process.arch, cpu: cpus()[0]?.model, cores: cpus().length }
  const brokers = series.map(({ broker, runs }) => ({ broker, summary: summarize({ broker, runs }), runs }))
  return `${JSON.stringify({ startedAt: startedAt.toISOString(), machine, parameters, brokers, ratios: ratios(series) }, undefined, 2)}\n`
}
