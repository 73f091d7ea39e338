/** What a run measures, and under which headings it is shown. */
import type { Faults } from './faults.js'
import type { LatencyHistogram } from './latency-histogram.js'
import type { Sample } from './timeline.js'

/** Rates are per second; latencies from send (in an open loop from the scheduled time) to delivery, in milliseconds. */
export interface Figures {
  messagesPerSecond?: number
  deliveriesPerSecond?: number
  p50Ms?: number
  p99Ms?: number
  p999Ms?: number
  maxMs?: number
  /** Cores that the broker and the load processes used; near 1 says which of them is the limit. */
  brokerCores?: number
  loadCores?: number
  /** Of a broker with more than its nodes: the shares. */
  nodeCores?: number
  redisCores?: number
  storeCores?: number
  brokerCpuMicrosPerDelivery?: number
  loadCpuMicrosPerDelivery?: number
  brokerRssPeakMb?: number
  /** Only with frozen members: deliveries/s to the others before, and how much memory the broker took on meanwhile. */
  deliveriesPerSecondBeforeFreeze?: number
  brokerRssGrowthWhileFrozenMb?: number
  /** Only in an open loop: what was asked for, and how late the load process itself was. */
  scheduledPerSecond?: number
  latenessP99Ms?: number
  /** Sessions that got their CONNACK, and from the start of a connection to it. */
  connectsPerSecond?: number
  connackP50Ms?: number
  connackP99Ms?: number
  /** CPU time of the broker from the start of the connects to their end, by their number. */
  brokerCpuMicrosPerConnect?: number
  brokerKbPerConnection?: number
  brokerCoresIdle?: number
  /** Of sessions that come back: from the start of the connection to the event `ready`, until the last is there, and tries that failed. */
  readyP50Ms?: number
  readyP99Ms?: number
  allBackSeconds?: number
  restartSeconds?: number
  retries?: number
  /** Of a backlog: how fast it was written, how much it was, and how fast it came. */
  fillPerSecond?: number
  backlogMessages?: number
  replayPerSecond?: number
  /** What users did besides sending. */
  calls?: number
  callP50Ms?: number
  callP99Ms?: number
  /** Until PUBACK, of recalls, edits and reactions. */
  acts?: number
  actP50Ms?: number
  actP99Ms?: number
  historyP99Ms?: number
  foldedP99Ms?: number
  syncP99Ms?: number
  conversationsP99Ms?: number
  receiptsP99Ms?: number
  readPositions?: number
  receiptsHeard?: number
  typingSignals?: number
  typingHeard?: number
  leaves?: number
  seconds: number
  sent: number
  delivered: number
  faults: Faults
  notes: string[]
  /** The whole distribution of the latencies, as far as the number of messages carries it. */
  percentiles?: [percent: number, ms: number][]
  /** One sample a second, from the connecting to the drain. */
  timeline?: Sample[]
}

/** The figures that have a median, with their heading. `better` says for which a ratio is printed, and what is good. */
export const columns = [
  { key: 'messagesPerSecond', heading: 'messages/s', digits: 0, better: 'more' },
  { key: 'deliveriesPerSecond', heading: 'deliveries/s', digits: 0, better: 'more' },
  { key: 'scheduledPerSecond', heading: 'scheduled messages/s', digits: 0 },
  { key: 'connectsPerSecond', heading: 'connects/s', digits: 0, better: 'more' },
  { key: 'connackP50Ms', heading: 'CONNACK p50 ms', digits: 1, better: 'less' },
  { key: 'connackP99Ms', heading: 'CONNACK p99 ms', digits: 1, better: 'less' },
  { key: 'brokerCpuMicrosPerConnect', heading: 'broker µs/connect', digits: 0, better: 'less' },
  { key: 'readyP50Ms', heading: 'ready p50 ms', digits: 1 },
  { key: 'readyP99Ms', heading: 'ready p99 ms', digits: 1 },
  { key: 'allBackSeconds', heading: 'all back after s', digits: 2, better: 'less' },
  { key: 'restartSeconds', heading: 'restart took s', digits: 2 },
  { key: 'retries', heading: 'connects retried', digits: 0 },
  { key: 'brokerKbPerConnection', heading: 'broker kB/connection', digits: 1, better: 'less' },
  { key: 'brokerCoresIdle', heading: 'broker cores idle', digits: 3 },
  { key: 'backlogMessages', heading: 'backlog messages', digits: 0 },
  { key: 'fillPerSecond', heading: 'filled messages/s', digits: 0, better: 'more' },
  { key: 'replayPerSecond', heading: 'replayed messages/s', digits: 0, better: 'more' },
  { key: 'p50Ms', heading: 'p50 ms', digits: 2, better: 'less' },
  { key: 'p99Ms', heading: 'p99 ms', digits: 2, better: 'less' },
  { key: 'p999Ms', heading: 'p99.9 ms', digits: 2 },
  { key: 'maxMs', heading: 'max ms', digits: 1 },
  { key: 'latenessP99Ms', heading: 'load process late p99 ms', digits: 2 },
  { key: 'calls', heading: 'calls', digits: 0 },
  { key: 'callP50Ms', heading: 'call p50 ms', digits: 2 },
  { key: 'callP99Ms', heading: 'call p99 ms', digits: 2 },
  { key: 'historyP99Ms', heading: '  history p99 ms', digits: 2 },
  { key: 'foldedP99Ms', heading: '  history, folded p99 ms', digits: 2 },
  { key: 'syncP99Ms', heading: '  sync p99 ms', digits: 2 },
  { key: 'conversationsP99Ms', heading: '  conversations p99 ms', digits: 2 },
  { key: 'receiptsP99Ms', heading: '  receipts p99 ms', digits: 2 },
  { key: 'acts', heading: 'recalls, edits, reactions', digits: 0 },
  { key: 'actP50Ms', heading: '  until PUBACK p50 ms', digits: 2 },
  { key: 'actP99Ms', heading: '  until PUBACK p99 ms', digits: 2 },
  { key: 'readPositions', heading: 'read positions', digits: 0 },
  { key: 'receiptsHeard', heading: 'receipts heard', digits: 0 },
  { key: 'typingSignals', heading: 'typing signals', digits: 0 },
  { key: 'typingHeard', heading: 'typing signals heard', digits: 0 },
  { key: 'leaves', heading: 'sessions left and back', digits: 0 },
  { key: 'brokerCores', heading: 'broker cores', digits: 2 },
  { key: 'nodeCores', heading: '  its nodes', digits: 2 },
  { key: 'redisCores', heading: '  its Redis', digits: 2 },
  { key: 'storeCores', heading: '  its store', digits: 2 },
  { key: 'loadCores', heading: 'load cores', digits: 2 },
  { key: 'brokerCpuMicrosPerDelivery', heading: 'broker µs/delivery', digits: 2 },
  { key: 'loadCpuMicrosPerDelivery', heading: 'load µs/delivery', digits: 2 },
  { key: 'brokerRssPeakMb', heading: 'broker peak RSS MB', digits: 0 },
  { key: 'deliveriesPerSecondBeforeFreeze', heading: 'deliveries/s before freeze', digits: 0 },
  { key: 'brokerRssGrowthWhileFrozenMb', heading: 'RSS growth in freeze MB', digits: 1 },
] as const satisfies { key: keyof Figures; heading: string; digits: number; better?: 'more' | 'less' }[]

export type ColumnKey = (typeof columns)[number]['key']

const quantileSteps = [0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.999]
/** A percentile is only said when so many values lie above it. */
const valuesAboveMin = 5

/** The curve of a distribution, and the figures that are read from it. */
export function latencyFigures(histogram: LatencyHistogram): Partial<Figures> {
  const { count } = histogram
  if (count === 0) return {}
  const ms = (share: number): number => histogram.quantile(share) / 1000
  const known = quantileSteps.filter((percent) => (count * (100 - percent)) / 100 >= valuesAboveMin || percent <= 50)
  const percentiles = known.map((percent): [number, number] => [percent, ms(percent / 100)])
  const figures: Partial<Figures> = { p50Ms: ms(0.5), p99Ms: ms(0.99), maxMs: ms(1), percentiles }
  if (count / 1000 >= valuesAboveMin) figures.p999Ms = ms(0.999)
  return figures
}
