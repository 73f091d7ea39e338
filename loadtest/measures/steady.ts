/** Measures scenarios whose load goes on for a while: `direct`, `group` and `mixed`; in a closed loop or at a rate. */
import { callKinds } from '../calls.js'
import { type Figures, latencyFigures } from '../figures.js'
import type { Audit } from '../orders.js'
import { MemoryWatch } from '../process-stats.js'
import { mergeHistograms, type Stage, type Window } from '../stage.js'

/** What a window says without regard to the scenario. */
export function windowFigures({
  seconds,
  confirmed,
  delivered,
  loadCpuSeconds,
  brokerCpuSeconds,
  partCpuSeconds,
}: Window): Partial<Figures> {
  const figures: Partial<Figures> = {
    messagesPerSecond: confirmed / seconds,
    deliveriesPerSecond: delivered / seconds,
    loadCores: loadCpuSeconds / seconds,
    loadCpuMicrosPerDelivery: (loadCpuSeconds * 1e6) / Math.max(1, delivered),
    seconds,
  }
  if (brokerCpuSeconds === undefined) return figures
  const { nodes, redis, store } = partCpuSeconds
  if (nodes !== undefined) figures.nodeCores = nodes / seconds
  if (redis !== undefined) figures.redisCores = redis / seconds
  if (store !== undefined) figures.storeCores = store / seconds
  return {
    ...figures,
    brokerCores: brokerCpuSeconds / seconds,
    brokerCpuMicrosPerDelivery: (brokerCpuSeconds * 1e6) / Math.max(1, delivered),
  }
}

export async function measureSteady(stage: Stage): Promise<Figures> {
  const { options, broker } = stage
  await stage.connect()
  await stage.all('start', {})
  await stage.pass('warming up', options.warmupSeconds + options.rampMs / 1000)
  const isFreezing = options.frozen > 0
  const before = isFreezing ? await stage.window(() => stage.pass('measuring before the freeze', options.seconds / 2)) : undefined
  if (isFreezing) await stage.all('freeze', null)
  const memory = new MemoryWatch(broker.pids())
  const rssBefore = await memory.start()
  await stage.all('mark', null)
  const window = await stage.window(() => stage.pass(isFreezing ? 'measuring with frozen members' : 'measuring', options.seconds))
  const rssPeak = await memory.stop()
  await stage.all('thaw', null)
  const { audits, figures } = await stage.finish()
  const isOpen = options.rate !== undefined
  Object.assign(figures, windowFigures(window), isOpen ? stage.sinceMark(audits) : latencyFigures(window.latency))
  if (options.rate !== undefined) figures.scheduledPerSecond = options.rate
  if (before !== undefined) figures.deliveriesPerSecondBeforeFreeze = before.delivered / before.seconds
  if (before !== undefined && rssBefore !== undefined && rssPeak !== undefined) {
    figures.brokerRssGrowthWhileFrozenMb = (rssPeak - rssBefore) / 2 ** 20
  }
  if (options.mixed !== undefined) Object.assign(figures, lifeFigures(audits))
  return figures
}

function lifeFigures(audits: Awaited<ReturnType<Stage['finish']>>['audits']): Partial<Figures> {
  const sum = (of: (audit: Audit) => number): number => audits.reduce((total, audit) => total + of(audit), 0)
  const ready = mergeHistograms(audits.map((audit) => audit.ready))
  const figures: Partial<Figures> = { leaves: sum(({ leaves }) => leaves) }
  if (ready.count > 0) {
    figures.readyP50Ms = ready.quantile(0.5) / 1000
    figures.readyP99Ms = ready.quantile(0.99) / 1000
  }
  const byKind = callKinds.map((kind) => [kind, mergeHistograms(audits.map(({ calls }) => calls[kind] ?? []))] as const)
  const acts = mergeHistograms(audits.map((audit) => audit.acts))
  const all = mergeHistograms(byKind.map(([, latency]) => latency.snapshot()))
  if (all.count === 0) return figures
  for (const [kind, latency] of byKind) if (latency.count > 0) figures[`${kind}P99Ms`] = latency.quantile(0.99) / 1000
  if (acts.count > 0)
    Object.assign(figures, { acts: acts.count, actP50Ms: acts.quantile(0.5) / 1000, actP99Ms: acts.quantile(0.99) / 1000 })
  return {
    ...figures,
    calls: all.count,
    callP50Ms: all.quantile(0.5) / 1000,
    callP99Ms: all.quantile(0.99) / 1000,
    readPositions: sum(({ reads }) => reads),
    receiptsHeard: sum(({ heard }) => heard.receipt),
    typingSignals: sum(({ typing }) => typing),
    typingHeard: sum(({ heard }) => heard.typing),
  }
}
