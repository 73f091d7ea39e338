/** One run: a fresh broker, the load processes, the measure of the scenario, and the figures that come out. */
import type { Figures } from './figures.js'
import { measureConnections } from './measures/connections.js'
import { measureBacklog, measureReconnectStorm } from './measures/return.js'
import { measureSteady } from './measures/steady.js'
import type { LoadOptions } from './options.js'
import type { Broker } from './peers/broker.js'
import type { Progress } from './progress.js'
import type { Scenario } from './scenarios/plan.js'
import { Stage } from './stage.js'

const measures: Record<Scenario, (stage: Stage) => Promise<Figures>> = {
  direct: measureSteady,
  group: measureSteady,
  mixed: measureSteady,
  connections: measureConnections,
  'reconnect-storm': measureReconnectStorm,
  backlog: measureBacklog,
}

/** Puts the load on `broker`, which the caller stops, and returns what was measured. */
export async function runOnce(options: LoadOptions, broker: Broker, progress: Progress): Promise<Figures> {
  const stage = new Stage(options, broker, progress)
  try {
    return await measures[options.scenario](stage)
  } finally {
    await stage.end()
  }
}
