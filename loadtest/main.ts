/**
 * `npm run loadtest -- direct|group|connections|reconnect-storm|backlog|mixed`: puts load on a Parley that it starts itself, checks that
 * every message arrives exactly once and in order, and prints what was measured. Exit code 1 when a message was lost, came twice, late or
 * to the wrong client, or when a run failed.
 */
import { writeFile } from 'node:fs/promises'
import { createProgram } from './command-line.js'
import { faultCount } from './faults.js'
import { renderHtml } from './html-report.js'
import { type LoadOptions, parseOptions, type RawOptions } from './options.js'
import type { Broker } from './peers/broker.js'
import { createProgress } from './progress.js'
import { renderAudit, renderTable, type Series, toJson } from './report.js'
import { runOnce } from './run.js'
import type { Scenario } from './scenarios/plan.js'
import { type BrokerName, startBroker } from './start-broker.js'

const interruptedExitCode = 130

/** Leaves no broker and no data behind when the tool is interrupted. Call the result when there is nothing to clean up any more. */
function onInterrupt(cleanUp: () => Promise<void>): () => void {
  const interrupted = (): void => {
    const leave = (): never => process.exit(interruptedExitCode)
    cleanUp().then(leave, leave)
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  return () => {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
  }
}

/** Starts each yardstick once, so that one that cannot be started is told before anything is measured. */
async function tryYardsticks(options: LoadOptions): Promise<void> {
  for (const name of options.against) {
    const starting = startBroker(name, options)
    const forget = onInterrupt(() => starting.then((broker) => broker.stop()))
    await (await starting).stop()
    forget()
  }
}

/** Of a run that went wrong the broker may know why. */
function tellPrinted(name: BrokerName, broker: Broker): void {
  const printed = broker.printed()
  if (printed !== '') process.stderr.write(`\n${name} printed:\n${printed}\n`)
}

/** The brokers take turns, so that a change of the machine's mood meets them all. */
async function runAll(options: LoadOptions): Promise<Series[]> {
  const names: BrokerName[] = options.peerOnly === undefined ? ['parley', ...options.against] : [options.peerOnly]
  const series = names.map((broker): Series & { broker: BrokerName } => ({ broker, runs: [] }))
  const progress = createProgress(process.stderr)
  for (let run = 1; run <= options.runs; run++) {
    for (const { broker: name, runs } of series) {
      progress.title(options.runs > 1 ? `${name}, run ${run} of ${options.runs}` : name)
      progress.phase('starting')
      const starting = startBroker(name, options)
      const forget = onInterrupt(() => starting.then((broker) => broker.stop()))
      const broker = await starting
      try {
        const figures = await runOnce(options, broker, progress)
        runs.push(figures)
        if (faultCount(figures.faults) > 0) tellPrinted(name, broker)
      } catch (error) {
        tellPrinted(name, broker)
        throw error
      } finally {
        await broker.stop()
        forget()
      }
    }
  }
  progress.end()
  return series
}

async function execute(scenario: Scenario, raw: RawOptions): Promise<void> {
  const options = parseOptions(scenario, raw)
  const startedAt = new Date()
  await tryYardsticks(options)
  const series = await runAll(options)
  const out = options.json === '-' ? process.stderr : process.stdout
  out.write(`\n${renderTable(series)}\n\n${renderAudit(series)}\n`)
  if (options.json === '-') process.stdout.write(toJson(options, series, startedAt))
  else if (options.json !== undefined) await writeFile(options.json, toJson(options, series, startedAt))
  if (options.html !== undefined) await writeFile(options.html, renderHtml(options, series, startedAt))
  const tested = series[0]
  if (tested?.runs.some(({ faults }) => faultCount(faults) > 0)) {
    process.stderr.write(`\n${tested.broker} FAILED: it broke a promise about its messages, see the lines above\n`)
    process.exitCode = 1
  }
}

try {
  await createProgram(execute).parseAsync()
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
