/** The plots and the HTML report: ticks are round, text is escaped, nothing is fetched, and a fault is on the page. */
import t from 'tap'
import { noFaults } from '../loadtest/faults.js'
import { type Figures, latencyFigures } from '../loadtest/figures.js'
import { renderHtml } from '../loadtest/html-report.js'
import { LatencyHistogram } from '../loadtest/latency-histogram.js'
import { parseOptions, type RawOptions } from '../loadtest/options.js'
import { linearTicks, logTicks, renderPlot } from '../loadtest/svg-plot.js'
import type { Sample } from '../loadtest/timeline.js'

t.test('ticks', async (t) => {
  t.same(linearTicks(0, 100), [0, 20, 40, 60, 80, 100])
  t.same(linearTicks(0, 0.7), [0, 0.2, 0.4, 0.6])
  t.same(linearTicks(3, 9), [3, 4, 5, 6, 7, 8, 9])
  t.same(logTicks(0.4, 250), [0.1, 1, 10, 100, 1_000])
  t.same(logTicks(1, 1), [1, 10])
})

t.test('a plot', async (t) => {
  const points: [number, number][] = [
    [0, 1],
    [99, 10],
    [99.9, 100],
  ]
  const plot = renderPlot({ title: 'a < b', xLabel: 'x', xScale: 'percentile', yScale: 'log', lines: [{ name: '"one"', points }] })
  t.match(plot, /a &lt; b/)
  t.match(plot, /&quot;one&quot;/)
  t.notMatch(plot, /NaN|Infinity|undefined/)
  t.equal((plot.match(/<circle/g) ?? []).length, 3)
  t.equal(renderPlot({ title: '', xLabel: '', xScale: 'linear', yScale: 'linear', lines: [{ name: 'none', points: [] }] }), '')
  const flat = renderPlot({ title: 'flat', xLabel: '', xScale: 'linear', yScale: 'log', lines: [{ name: 'zero', points: [[1, 0]] }] })
  t.notMatch(flat, /NaN|Infinity/)
})

t.test('percentiles are only told where there are values above them', async (t) => {
  const histogram = new LatencyHistogram()
  for (let i = 0; i < 600; i++) histogram.record(i)
  const { percentiles = [], p99Ms, p999Ms } = latencyFigures(histogram)
  t.equal(percentiles.at(-1)?.[0], 99)
  t.ok(p99Ms !== undefined && p999Ms === undefined)
  t.same(latencyFigures(new LatencyHistogram()), {})
})

const raw: RawOptions = {
  ...{ clients: '4', inflight: '1', bytes: '100', seconds: '1', warmup: '0', drain: '30', runs: '1', processes: '1', against: ['aedes'] },
  ...{ url: [], brokerPid: [], brokerEnv: [], brokerNodeArgs: '', loadNodeArgs: '', html: 'report.html' },
}

t.test('the report', async (t) => {
  const sample: Sample = {
    second: 1,
    phase: 'measuring',
    connected: 4,
    messagesPerSecond: 5,
    deliveriesPerSecond: 6,
    p99Ms: 2,
    loadCores: 0.1,
  }
  const figures: Figures = {
    deliveriesPerSecond: 6,
    seconds: 1,
    sent: 1,
    delivered: 1,
    faults: noFaults(),
    notes: [],
    timeline: [sample, { ...sample, second: 2 }],
  }
  const bad: Figures = { ...figures, faults: { ...noFaults(), lost: 3 }, notes: ['<b>: lost 3'] }
  const options = { ...parseOptions('direct', raw), secret: 'very-secret' }
  const page = renderHtml(
    options,
    [
      { broker: 'parley', runs: [figures, bad, figures] },
      { broker: 'aedes', runs: [figures] },
    ],
    new Date(0),
  )
  t.match(page, /3 faults of the first broker/)
  t.match(page, /&lt;b&gt;: lost 3/)
  t.match(page, /Deliveries per second/)
  t.match(page, /parley \/ aedes/)
  t.notMatch(page, /very-secret|report\.html|NaN|undefined/)
  t.notMatch(page, /https?:|<script|src=|href=|@import|url\(/, 'it needs nothing else')
})

t.test('flags of the further scenarios', async (t) => {
  const mixed = {
    ...raw,
    clients: '100',
    rate: '200',
    friends: '8',
    groups: '3',
    groupSize: '10',
    groupShare: '0.3',
    skew: '1',
    leaves: '2',
    away: '3',
    seed: '1',
  }
  t.match(parseOptions('mixed', mixed), { rate: 200, persistent: true, mixed: { readsPerSecond: 100, callsPerSecond: 10, awayMs: 3_000 } })
  t.match(parseOptions('backlog', { ...raw, messages: '50', senders: '2' }), { messages: 50, senders: 2, clients: 4 })
  t.equal(parseOptions('direct', { ...raw, against: ['aedes-redis'] }).persistent, true)
  t.match(parseOptions('direct', { ...raw, against: [], url: ['ws://127.0.0.1:8080'], secret: 'x' }), {
    transport: 'ws',
    running: [{ transport: 'ws', host: '127.0.0.1', port: 8080, path: '/mqtt' }],
  })
  t.match(parseOptions('direct', { ...raw, against: [], url: ['mqtts://chat.example.org'], secret: 'x' }), {
    transport: 'tls',
    running: [{ port: 8883 }],
  })
  t.match(parseOptions('direct', { ...raw, against: ['mosquitto'], url: ['wss://chat.example.org/other'], secret: 'x' }), {
    transport: 'wss',
    running: [{ port: 443, path: '/other' }],
    against: ['mosquitto'],
  })
  t.match(parseOptions('direct', { ...raw, url: ['mqtt://a,mqtt://b', 'mqtt://c'], secret: 'x' }), {
    running: [{ host: 'a' }, { host: 'b' }, { host: 'c' }],
  })
  const wrong: [Partial<RawOptions>, RegExp][] = [
    [{ transport: 'udp' }, /--transport is udp; there are tcp, tls, ws, wss/],
    [{ transport: 'tcp', url: ['ws://x'], secret: 'x' }, /--transport is tcp, but --url is ws:\/\/x/],
    [{ url: ['http://x'], secret: 'x' }, /must look like mqtt:/],
    [{ nodes: '2', url: ['mqtt://x'], secret: 'x' }, /--nodes and --url exclude each other/],
    [{ nodes: '0' }, /--nodes is 0/],
    [{ rate: '0' }, /--rate is 0/],
    [{ restart: true, url: ['mqtt://x'], secret: 'x' }, /--restart: the tool cannot start/],
  ]
  for (const [change, message] of wrong) t.throws(() => parseOptions('direct', { ...raw, ...change }), { message })
  t.throws(() => parseOptions('backlog', { ...raw, clients: '20000', messages: '1000000', senders: '1' }), /at most 10000000/)
  t.throws(() => parseOptions('mixed', { ...mixed, leaves: '50', away: '2' }), /more than half/)
})
