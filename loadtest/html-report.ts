/** The report as one HTML file that needs nothing else: figures, ratios, the audit, and plots of one run of each broker. */
import { faultCount } from './faults.js'
import type { Figures } from './figures.js'
import type { LoadOptions } from './options.js'
import { describeMachine, ratioRows, renderAudit, type Series, tableRows } from './report.js'
import { escapeHtml, type Plot, renderPlot } from './svg-plot.js'
import type { Sample } from './timeline.js'

const style = `
:root { color-scheme: light dark; --line: #8884 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: normal }
th { font-weight: 600 } td:first-child, th:first-child { text-align: left }
td { overflow-wrap: anywhere } pre { overflow-x: auto; white-space: pre-wrap } .good { color: #2b8a3e } .bad { color: #e03131; font-weight: 600 }
figure { margin: 1.5rem 0 } figcaption { font-weight: 600; display: flex; gap: 1.5rem; flex-wrap: wrap; align-items: baseline }
figcaption span { margin-right: 1rem; font-weight: normal } figcaption i { display: inline-block; width: .8em; height: .8em; margin-right: .4em }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: currentColor } svg path { fill: none; stroke-width: 2 }
svg .grid { stroke: var(--line) } small { font-size: .85em }
`

/** The run nearest to the median throughput, so that the plots show an ordinary one. */
function ordinaryRun(runs: readonly Figures[]): { run: Figures; number: number } | undefined {
  const speed = (run: Figures): number => run.deliveriesPerSecond ?? run.replayPerSecond ?? run.connectsPerSecond ?? 0
  const numbered = runs.map((run, index) => ({ run, number: index + 1 })).sort((a, b) => speed(a.run) - speed(b.run))
  return numbered[(numbered.length - 1) >> 1]
}

interface Shown {
  name: string
  run: Figures
}

function plots(shown: readonly Shown[]): string[] {
  const over = (title: string, of: (sample: Sample) => number | undefined, yScale: Plot['yScale'] = 'linear'): Plot => ({
    title,
    xLabel: 'seconds since the run began',
    xScale: 'linear',
    yScale,
    lines: shown.map(({ name, run }) => ({ name, points: pointsOf(run.timeline ?? [], of) })),
  })
  const distribution: Plot = {
    title: 'Latency by percentile, ms',
    xLabel: 'percentile; each further nine takes the same width',
    xScale: 'percentile',
    yScale: 'log',
    lines: shown.map(({ name, run }) => ({ name, points: run.percentiles ?? [] })),
  }
  return [
    distribution,
    over('Deliveries per second', ({ deliveriesPerSecond }) => deliveriesPerSecond),
    over('Messages acknowledged per second', ({ messagesPerSecond }) => messagesPerSecond),
    over('p99 latency of each second, ms', ({ p99Ms }) => p99Ms, 'log'),
    over('Memory of the broker (RSS), MB', ({ brokerRssMb }) => brokerRssMb),
    over('CPU of the broker, cores', ({ brokerCores }) => brokerCores),
    over('CPU of the load processes, cores', ({ loadCores }) => loadCores),
    over('Connected clients', ({ connected }) => connected),
  ].map(renderPlot)
}

function pointsOf(samples: readonly Sample[], of: (sample: Sample) => number | undefined): [number, number][] {
  return samples.flatMap((sample): [number, number][] => {
    const value = of(sample)
    return value === undefined ? [] : [[sample.second, value]]
  })
}

function table(rows: readonly string[][]): string {
  const [head = [], ...body] = rows
  const row = (cells: readonly string[], kind: 'td' | 'th'): string =>
    `<tr>${cells.map((cell) => `<${kind}>${escapeHtml(cell)}</${kind}>`).join('')}</tr>`
  return `<table>${row(head, 'th')}${body.map((cells) => row(cells, 'td')).join('\n')}</table>`
}

const shownParameter = (value: unknown): string => (typeof value === 'object' ? JSON.stringify(value) : String(value))

export function renderHtml(options: LoadOptions, series: Series[], startedAt: Date): string {
  const { secret: _secret, json: _json, html: _html, running, ...parameters } = options
  const shown = series.flatMap(({ broker, runs }): Shown[] => {
    const ordinary = ordinaryRun(runs)
    if (ordinary === undefined) return []
    return [{ name: runs.length > 1 ? `${broker}, run ${ordinary.number}` : broker, run: ordinary.run }]
  })
  const faults = series[0]?.runs.reduce((sum, run) => sum + faultCount(run.faults), 0) ?? 0
  const title = `Load test ${options.scenario}: ${series.map(({ broker }) => broker).join(', ')}`
  const target = running.map(({ transport, host, port }) => ['url', `${transport} ${host}:${port}`])
  const parts = [
    `<h1>${escapeHtml(title)}</h1>`,
    `<p>${startedAt.toISOString()} · ${escapeHtml(Object.values(describeMachine()).join(' · '))}</p>`,
    `<p class="${faults === 0 ? 'good' : 'bad'}">${faults === 0 ? 'No message of the first broker was lost, repeated or out of order.' : `${faults} faults of the first broker, see below.`}</p>`,
    `<h2>Figures</h2>${table(tableRows(series))}`,
    ...ratioRows(series).map(([name, text]) => `<p><b>${escapeHtml(name)}</b>: ${escapeHtml(text)}</p>`),
    `<h2>Plots</h2>${plots(shown).join('\n')}`,
    `<h2>Audit</h2><pre>${escapeHtml(renderAudit(series))}</pre>`,
    `<h2>Parameters</h2>${table([['parameter', 'value'], ...target, ...Object.entries(parameters).map(([name, value]) => [name, shownParameter(value)])])}`,
  ]
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)}</title><style>${style}</style>`
  return `<!doctype html>\n<html lang="en"><head>${head}</head><body>\n${parts.join('\n')}\n</body></html>\n`
}
