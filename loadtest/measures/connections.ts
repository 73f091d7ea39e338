/** Measures scenario `connections`: how fast many sessions connect, what an idle one costs, and what a trickle of messages among them does. */
import type { Figures } from '../figures.js'
import { readStatsOf } from '../process-stats.js'
import type { Stage } from '../stage.js'
import { windowFigures } from './steady.js'

/** After the last connect, until its garbage is gone as far as it goes by itself. */
const settleSeconds = 2

export async function measureConnections(stage: Stage): Promise<Figures> {
  const { options, broker } = stage
  await stage.connectFirst()
  const [before, nodesBefore] = [await readStatsOf(broker.pids()), await readStatsOf(broker.pids('nodes'))]
  const connecting = await stage.connect()
  const connected = await readStatsOf(broker.pids())
  await stage.pass('settling', Math.min(settleSeconds, options.seconds))
  const idle = await stage.window(() => stage.pass('idle', options.seconds))
  const rssIdle = (await readStatsOf(broker.pids('nodes')))?.rssBytes
  await stage.all('start', {})
  await stage.pass('warming up', options.warmupSeconds + options.rampMs / 1000)
  await stage.all('mark', null)
  const window = await stage.window(() => stage.pass('trickle', options.seconds))
  const { audits, figures } = await stage.finish()
  Object.assign(figures, connecting, windowFigures(window), stage.sinceMark(audits))
  if (options.rate !== undefined) figures.scheduledPerSecond = options.rate
  if (idle.brokerCpuSeconds !== undefined) figures.brokerCoresIdle = idle.brokerCpuSeconds / idle.seconds
  if (nodesBefore !== undefined && rssIdle !== undefined)
    figures.brokerKbPerConnection = (rssIdle - nodesBefore.rssBytes) / 1000 / options.clients
  if (before !== undefined && connected !== undefined)
    figures.brokerCpuMicrosPerConnect = ((connected.cpuSeconds - before.cpuSeconds) * 1e6) / options.clients
  return figures
}
