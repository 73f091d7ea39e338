/** Quantiles agree with those of perf_hooks, windows are differences of snapshots, medians are medians, wrong flags are named. */
import { createHistogram } from 'node:perf_hooks'
import t from 'tap'
import { noFaults } from '../loadtest/faults.js'
import type { Figures } from '../loadtest/figures.js'
import { LatencyHistogram } from '../loadtest/latency-histogram.js'
import { parseOptions, type RawOptions } from '../loadtest/options.js'
import { renderAudit, renderTable, spreadOf } from '../loadtest/report.js'

t.test('quantiles within 1 % of the histogram of perf_hooks', async (t) => {
  const seed = Date.now() % 1e6
  t.comment(`seed ${seed}`)
  let state = seed
  const ours = new LatencyHistogram()
  const reference = createHistogram({ figures: 4 })
  for (let i = 0; i < 20_000; i++) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    const micros = 1 + Math.floor(10 ** ((state / 2 ** 31) * 7.5))
    ours.record(micros)
    reference.record(micros)
  }
  t.equal(ours.count, 20_000)
  for (const percent of [1, 10, 50, 90, 99, 99.9, 100]) {
    const expected = reference.percentile(percent)
    t.ok(Math.abs(ours.quantile(percent / 100) - expected) <= Math.max(1, expected * 0.01), `p${percent}`)
  }
})

t.test('every value lies in its bucket', async (t) => {
  for (let value = 0; value < 100_000; value = Math.ceil(value * 1.01) + 1) {
    const histogram = new LatencyHistogram()
    histogram.record(value)
    if (Math.abs(histogram.quantile(1) - value) > value * 0.008) t.fail(`${value} is reported as ${histogram.quantile(1)}`)
  }
  t.equal(new LatencyHistogram().quantile(0.5), 0)
})

t.test('a window is the difference of two snapshots', async (t) => {
  const histogram = new LatencyHistogram()
  for (let i = 0; i < 100; i++) histogram.record(10)
  const before = histogram.snapshot()
  for (let i = 0; i < 50; i++) histogram.record(1_000)
  const window = new LatencyHistogram()
  window.add(histogram.snapshot())
  window.add(before, -1)
  t.equal(window.count, 50)
  t.ok(window.quantile(0.01) > 900)
})

const figures = (messagesPerSecond: number): Figures => ({
  messagesPerSecond,
  deliveriesPerSecond: messagesPerSecond * 2,
  p50Ms: 1,
  p99Ms: 2,
  loadCores: 0.5,
  loadCpuMicrosPerDelivery: 2,
  seconds: 1,
  sent: 10,
  delivered: 10,
  faults: noFaults(),
  notes: [],
})

t.test('medians, ranges and ratios', async (t) => {
  const runs = [figures(300), figures(100), figures(200)]
  t.same(spreadOf(runs, 'messagesPerSecond'), { median: 200, min: 100, max: 300 })
  t.same(spreadOf(runs.slice(0, 2), 'messagesPerSecond'), { median: 200, min: 100, max: 300 })
  t.equal(spreadOf(runs, 'brokerCores'), undefined)
  const table = renderTable([
    { broker: 'parley', runs },
    { broker: 'aedes', runs: [figures(50)] },
  ])
  t.match(table, /messages\/s +200 {2}\(100–300\) +50/)
  t.match(table, /parley \/ aedes +messages\/s × 4\.00/)
  t.notMatch(table, /RSS/)
})

t.test('a fault is spelled out', async (t) => {
  const bad = { ...figures(1), faults: { ...noFaults(), lost: 2 }, notes: ['load-1: lost 2 of 10'] }
  const text = renderAudit([{ broker: 'parley', runs: [figures(1), bad] }])
  t.match(text, /run 1: 10 sent, 10 delivered: nothing lost/)
  t.match(text, /run 2: .*FAULTS lost 2\n {2}load-1: lost 2 of 10/)
})

const raw: RawOptions = {
  ...{ clients: '200', members: '500', senders: '1', offline: '0', frozen: '0', inflight: '16', bytes: '100', seconds: '10' },
  ...{
    warmup: '3',
    drain: '30',
    runs: '1',
    processes: '1',
    against: [],
    url: [],
    brokerPid: [],
    brokerEnv: [],
    brokerNodeArgs: '',
    loadNodeArgs: '',
  },
}

t.test('flags', async (t) => {
  t.match(parseOptions('direct', { ...raw, against: ['aedes,sink', 'mosquitto'] }), {
    against: ['aedes', 'sink', 'mosquitto'],
    clients: 200,
  })
  t.match(parseOptions('group', { ...raw, brokerEnv: ['A=b=c'] }).brokerSettings, { A: 'b=c' })
  const wrong: [Partial<RawOptions>, RegExp][] = [
    [{ clients: '3' }, /--clients is 3; it must be even/],
    [{ inflight: '0' }, /--inflight is 0/],
    [{ inflight: 'x' }, /--inflight is x; it must be a number/],
    [{ runs: '1.5' }, /--runs is 1.5; it must be a whole number/],
    [{ bytes: '10' }, /--bytes is 10/],
    [{ against: ['emqx'] }, /--against is emqx; there are aedes, aedes-redis, mosquitto, sink/],
    [{ url: ['mqtt://x'] }, /--url needs --secret/],
    [{ peerOnly: 'sink', against: ['aedes'] }, /exclude each other/],
    [{ brokerEnv: ['A'] }, /--broker-env is A/],
  ]
  for (const [change, message] of wrong) t.throws(() => parseOptions('direct', { ...raw, ...change }), { message })
  t.throws(() => parseOptions('group', { ...raw, members: '3', frozen: '2' }), /--frozen is 2/)
})
