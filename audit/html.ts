/** The verdict as one HTML page without anything from elsewhere: the table, the course of the run with its faults, and the words. */
import { kinds } from './faults.js'
import type { History, Sample } from './history.js'
import { figuresOf, headline, summarizeFaults } from './report.js'
import { type Verdict, violationCount, wrongNames, wrongs } from './verdict.js'

const width = 900
const height = 180
const grouped = (value: number): string => value.toLocaleString('en-US')

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (text: string): string => text.replace(/[&<>"]/g, (char) => escapes[char] as string)

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.3rem}.proved{color:#17692f}.broken{color:#b3261e}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;background:#f6f7f9}figcaption{font-size:.85rem;color:#555}code{font-size:.85rem}`

/** Steps per second of a counter, as points of a line. */
function line(
  samples: readonly Sample[],
  figureOf: (sample: Sample, before: Sample) => number,
  endMs: number,
): { points: string; top: number } {
  const values = samples.slice(1).map((sample, index) => figureOf(sample, samples[index] as Sample))
  const top = Math.max(1, ...values)
  const points = values.map((value, index) => {
    const x = ((samples[index + 1] as Sample).ms / endMs) * width
    return `${x.toFixed(1)},${(height - (value / top) * (height - 10)).toFixed(1)}`
  })
  return { points: points.join(' '), top }
}

const perSecond =
  (key: 'acked' | 'delivered') =>
  (sample: Sample, before: Sample): number =>
    ((sample[key] - before[key]) * 1_000) / Math.max(1, sample.ms - before.ms)

function plot(history: History, title: string, color: string, figureOf: (sample: Sample, before: Sample) => number): string {
  const { samples, faults } = history
  const endMs = Math.max(1, samples.at(-1)?.ms ?? 1)
  const { points, top } = line(samples, figureOf, endMs)
  const marks = faults
    .filter(({ kind }) => kinds[kind as keyof typeof kinds]?.scope === 'server')
    .map(({ kind, ms }) => {
      const x = ((ms / endMs) * width).toFixed(1)
      return `<g><line x1="${x}" x2="${x}" y1="0" y2="${height}" stroke="#b3261e" stroke-dasharray="3 3"/><text x="${x}" y="12" font-size="10" fill="#b3261e">${kind}</text></g>`
    })
  return `<figure><svg viewBox="0 0 ${width} ${height}" role="img"><title>${title}</title>${marks.join('')}<polyline fill="none" stroke="${color}" stroke-width="1.5" points="${points}"/></svg><figcaption>${title}, at most ${grouped(Math.round(top))}; ${Math.round(endMs / 1_000)} s</figcaption></figure>`
}

export function renderHtml(history: History, verdict: Verdict): string {
  const { run } = history
  const row = (...cells: string[]): string => `<tr>${cells.join('')}</tr>`
  const cell = (text: string): string => `<td>${escaped(text)}</td>`
  const number = (value: number): string => `<td class="n">${grouped(value)}</td>`
  const figures = figuresOf(verdict).map(([name, value]) => row(cell(name), number(value)))
  const wrong = wrongNames.map((name) =>
    row(cell(name), number(verdict.wrong[name]), cell(wrongs[name].invariant), cell(wrongs[name].meaning)),
  )
  const faults = summarizeFaults(history).map(({ kind, count, what, skipped }) =>
    row(
      cell(kind),
      cell(skipped === '' ? what || grouped(count) : `not done: ${skipped}`),
      cell(kinds[kind as keyof typeof kinds]?.meaning ?? ''),
    ),
  )
  const words = [...verdict.notes, ...verdict.violations.map(({ wrong: name, text }) => `${name}: ${text}`)]
  const command = `parley prove --seed ${run.seed} --minutes ${run.minutes} --users ${run.users} --rate ${run.rate} --faults ${run.faults.join(',') || 'none'}`
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>parley prove, seed ${run.seed}</title><style>${style}</style>
<h1 class="${violationCount(verdict) === 0 ? 'proved' : 'broken'}">${escaped(headline(history, verdict))}</h1>
<p>${escaped(run.startedAt)}<br><code>${escaped(command)}</code></p>
<table>${figures.join('')}</table>
<h2>Promises</h2><table>${wrong.join('')}</table>
<h2>Course</h2>
${plot(history, 'acknowledged a second', '#1f5fbf', perSecond('acked'))}
${plot(history, 'delivered a second', '#17692f', perSecond('delivered'))}
${plot(history, 'memory of the server in MB', '#7a4b00', (sample) => sample.rssMb)}
<h2>Faults</h2><table>${faults.join('')}</table>
${words.length === 0 ? '' : `<h2>Notes and violations</h2><ul>${words.map((text) => `<li>${escaped(text)}</li>`).join('')}</ul>`}
</html>
`
}
