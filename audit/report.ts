/** The verdict as a table for a terminal and as JSON. */
import { type FaultKind, kinds } from './faults.js'
import type { History } from './history.js'
import { type Verdict, violationCount, wrongNames, wrongs } from './verdict.js'

export interface FaultSummary {
  kind: string
  count: number
  /** Of faults that go on all the time: what came of them. */
  what: string
  skipped: string
}

const format = (value: number): string => value.toLocaleString('en-US')

/** Every kind that was asked for, done or not. */
export function summarizeFaults({ run, faults }: History): FaultSummary[] {
  return run.faults.map((kind) => {
    const done = faults.filter((fault) => fault.kind === kind)
    const isSteady = kinds[kind as FaultKind]?.scope === 'steady'
    const skipped = run.skipped.find((skip) => skip.kind === kind)?.why ?? (done.length === 0 ? 'it did not come to it in this run' : '')
    return { kind, count: isSteady ? 0 : done.length, what: isSteady ? (done[0]?.what ?? '') : '', skipped }
  })
}

export const figuresOf = (verdict: Verdict): [name: string, value: number][] => [
  ['sent', verdict.sent],
  ['acked', verdict.acked],
  ['refused', verdict.refused],
  ['stored', verdict.stored],
  ['delivered', verdict.delivered],
  ['replayed', verdict.replayed],
  ['repeated', verdict.repeated],
  ['connections', verdict.connections],
]

/** One line that says how it ended. */
export function headline(history: History, verdict: Verdict): string {
  const count = violationCount(verdict)
  const seed = `seed ${history.run.seed}`
  return count === 0 ? `PROVED: no promise was broken (${seed})` : `BROKEN: ${format(count)} violations (${seed})`
}

export function renderTable(history: History, verdict: Verdict): string {
  const lines = ['']
  for (const [name, value] of figuresOf(verdict)) lines.push(`  ${name.padEnd(14)} ${format(value).padStart(12)}`)
  lines.push('')
  for (const name of wrongNames) {
    const { invariant, meaning } = wrongs[name]
    lines.push(`  ${name.padEnd(14)} ${format(verdict.wrong[name]).padStart(12)}  ${invariant.padEnd(7)} ${meaning}`)
  }
  lines.push('')
  const faults = summarizeFaults(history)
  const done = faults
    .filter(({ skipped }) => skipped === '')
    .map(({ kind, count, what }) => (what === '' ? `${kind} ${count}` : `${kind} (${what})`))
  lines.push(`  faults done: ${done.join(', ') || 'none'}`)
  for (const { kind, skipped } of faults) if (skipped !== '') lines.push(`  not done: ${kind}: ${skipped}`)
  for (const note of verdict.notes) lines.push(`  note: ${note}`)
  for (const { wrong, text } of verdict.violations) lines.push(`  ${wrong}: ${text}`)
  lines.push('', headline(history, verdict), '')
  return lines.join('\n')
}

export function toJson(history: History, verdict: Verdict): string {
  const { run } = history
  const isProved = violationCount(verdict) === 0
  return `${JSON.stringify({ isProved, run, faults: summarizeFaults(history), ...verdict }, undefined, 2)}\n`
}
