/** Draws lines as SVG for the HTML report: linear or logarithmic heights, and for distributions an axis that stretches 99, 99.9, 99.99 %. */

export interface PlotLine {
  name: string
  points: [x: number, y: number][]
}

export interface Plot {
  title: string
  xLabel: string
  /** `percentile` takes x as 0…100 and gives each further nine the same width. */
  xScale: 'linear' | 'percentile'
  yScale: 'linear' | 'log'
  lines: PlotLine[]
}

const width = 720
const height = 280
const margin = { left: 64, right: 16, top: 16, bottom: 40 }
const ticksWanted = 6
const colours = ['#2f6fed', '#d9480f', '#2b8a3e', '#862e9c', '#5f3dc4']
const ninesMax = 6

export const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** Round numbers that cover `min`…`max`. */
export function linearTicks(min: number, max: number): number[] {
  const rough = (max - min) / ticksWanted || 1
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power
  const first = Math.ceil(min / step - 1e-9)
  return Array.from({ length: Math.floor(max / step + 1e-9) - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)))
}

/** Powers of ten around `min`…`max`. */
export function logTicks(min: number, max: number): number[] {
  const [low, high] = [Math.floor(Math.log10(min)), Math.max(Math.ceil(Math.log10(max)), Math.floor(Math.log10(min)) + 1)]
  return Array.from({ length: high - low + 1 }, (_, index) => Number((10 ** (low + index)).toPrecision(12)))
}

const nines = (percent: number): number => Math.min(ninesMax, -Math.log10(Math.max(1e-9, 1 - percent / 100)))
const percentileTicks = [0, 50, 90, 99, 99.9, 99.99, 99.999]

function formatTick(value: number): string {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`
  if (Math.abs(value) >= 10_000) return `${Number((value / 1e3).toPrecision(4))}k`
  return String(Number(value.toPrecision(6)))
}

interface Axis {
  ticks: number[]
  /** Share of the length, 0…1. */
  place(value: number): number
}

function axis(values: readonly number[], scale: 'linear' | 'log' | 'percentile', from: 'zero' | 'least'): Axis {
  const finite = values.filter(Number.isFinite)
  const max = finite.length === 0 ? 1 : Math.max(...finite)
  if (scale === 'percentile') {
    const span = Math.max(1, nines(max))
    return { ticks: percentileTicks.filter((tick) => nines(tick) <= span), place: (value) => nines(value) / span }
  }
  if (scale === 'log') {
    const positive = finite.filter((value) => value > 0)
    const ticks = logTicks(positive.length === 0 ? 0.1 : Math.min(...positive), positive.length === 0 ? 1 : max)
    const [low, high] = [Math.log10(ticks[0] as number), Math.log10(ticks.at(-1) as number)]
    return { ticks, place: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) }
  }
  const min = from === 'zero' || finite.length === 0 ? 0 : Math.min(...finite)
  const top = max > min ? max : min + 1
  return { ticks: linearTicks(min, top), place: (value) => (value - min) / (top - min) }
}

export function renderPlot({ title, xLabel, xScale, yScale, lines }: Plot): string {
  const drawn = lines.filter(({ points }) => points.length > 0)
  const points = drawn.flatMap((line) => line.points)
  if (points.length === 0) return ''
  const x = axis(
    points.map(([value]) => value),
    xScale,
    'least',
  )
  const y = axis(
    points.map(([, value]) => value),
    yScale,
    'zero',
  )
  const [right, bottom] = [width - margin.right, height - margin.bottom]
  const left = (value: number): string => (margin.left + x.place(value) * (right - margin.left)).toFixed(1)
  const top = (value: number): string => (bottom - y.place(value) * (bottom - margin.top)).toFixed(1)
  const yTicks = y.ticks.map(
    (tick) =>
      `<line class="grid" x1="${margin.left}" x2="${right}" y1="${top(tick)}" y2="${top(tick)}"/>` +
      `<text x="${margin.left - 8}" y="${top(tick)}" dy="4" text-anchor="end">${formatTick(tick)}</text>`,
  )
  const xTicks = x.ticks.map(
    (tick) =>
      `<line class="grid" x1="${left(tick)}" x2="${left(tick)}" y1="${margin.top}" y2="${bottom}"/>` +
      `<text x="${left(tick)}" y="${bottom + 16}" text-anchor="middle">${formatTick(tick)}</text>`,
  )
  const paths = drawn.map(({ name, points: of }, index) => {
    const path = of.map(([px, py], at) => `${at === 0 ? 'M' : 'L'}${left(px)} ${top(py)}`).join('')
    const colour = colours[index % colours.length]
    const dots =
      of.length > 120 ? [] : of.map(([px, py]) => dot(left(px), top(py), colour, `${name}: ${formatTick(py)} at ${formatTick(px)}`))
    return `<path d="${path}" stroke="${colour}"/>${dots.join('')}`
  })
  const legend = drawn.map(
    ({ name }, index) => `<span><i style="background:${colours[index % colours.length]}"></i>${escapeHtml(name)}</span>`,
  )
  return [
    `<figure><figcaption>${escapeHtml(title)}<small>${legend.join('')}</small></figcaption>`,
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(title)}">`,
    ...yTicks,
    ...xTicks,
    `<text x="${(margin.left + right) / 2}" y="${height - 6}" text-anchor="middle">${escapeHtml(xLabel)}</text>`,
    ...paths,
    '</svg></figure>',
  ].join('\n')
}

const dot = (x: string, y: string, colour: string | undefined, text: string): string =>
  `<circle cx="${x}" cy="${y}" r="2.5" fill="${colour}"><title>${escapeHtml(text)}</title></circle>`
