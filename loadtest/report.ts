/** Turns the figures of all runs into medians and ratios, a table for people and JSON for programs. */
import { cpus } from 'node:os'
import { faultCount } from './faults.js'
import { type ColumnKey, columns, type Figures } from './figures.js'
import type { LoadOptions } from './options.js'

/** The runs of one broker, in the order in which they were made. */
export interface Series {
  broker: string
  runs: Figures[]
}

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

export type Ratios = Record<string, Partial<Record<ColumnKey, number>>>

/** Medians of the first series divided by those of each other one. */
function ratios([first, ...others]: Series[]): Ratios {
  const keys = columns.filter((column) => 'better' in column).map(({ key }) => key)
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

const format = (value: number, digits: number): string =>
  value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** One row per figure, one column per broker; a single value when there was one run. The first row has the names. */
export function tableRows(series: Series[]): string[][] {
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
  return rows
}

/** A line for each yardstick: by how much each figure is larger or smaller. */
export const ratioRows = (series: Series[]): [string, string][] =>
  Object.entries(ratios(series)).map(([name, values]) => {
    const parts = Object.entries(values).map(
      ([key, value]) => `${columns.find((column) => column.key === key)?.heading} × ${format(value, 2)}`,
    )
    return [name, parts.join(', ')]
  })

export function renderTable(series: Series[]): string {
  const [rows, comparisons] = [tableRows(series), ratioRows(series)]
  const wide = (column: number): number => Math.max(...rows.map((row) => row[column]?.length ?? 0))
  const first = Math.max(...[...rows, ...comparisons].map(([cell = '']) => cell.length))
  const lines = rows.map(([heading = '', ...cells]) => {
    const padded = cells.map((cell, i) => cell.padStart(wide(i + 1)))
    return `${heading.padEnd(first)}  ${padded.join('  ')}`.trimEnd()
  })
  return [...lines, ...comparisons.map(([name, text]) => `${name.padEnd(first)}  ${text}`)].join('\n')
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

export const describeMachine = (): { node: string; platform: string; arch: string; cpu: string | undefined; cores: number } => ({
  node: process.version,
  platform: process.platform,
  arch: process.arch,
  cpu: cpus()[0]?.model,
  cores: cpus().length,
})

export function toJson(options: LoadOptions, series: Series[], startedAt: Date): string {
  const { secret: _secret, ...parameters } = options
  const brokers = series.map(({ broker, runs }) => ({ broker, summary: summarize({ broker, runs }), runs }))
  const report = { startedAt: startedAt.toISOString(), machine: describeMachine(), parameters, brokers, ratios: ratios(series) }
  return `${JSON.stringify(report, undefined, 2)}\n`
}
