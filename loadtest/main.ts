/**
 * `npm run loadtest -- direct|group`: puts load on a Parley that it starts itself, checks that every message arrives exactly
 * once and in order, and prints what was measured. Exit code 1 when a message was lost, came twice, late or to the wrong
 * client, or when a run failed.
 */
import { writeFile } from 'node:fs/promises'
import { Command } from 'commander'
import { type LoadOptions, parseOptions, type RawOptions } from './options.js'
import { type Broker, type PeerName, peerNames, startNodePeer } from './peers/broker.js'
import { startMosquitto } from './peers/mosquitto.js'
import { runningParley, startParley } from './peers/parley.js'
import { createProgress } from './progress.js'
import { faultCount, renderAudit, renderTable, type Series, toJson } from './report.js'
import { runOnce } from './run.js'

const interruptedExitCode = 130
const defaultGroupMembersMax = 500

type BrokerName = 'parley' | PeerName

/** A setting that lets the group of this load exist, when it is larger than groups are by default. */
function roomFor({ members, offline }: LoadOptions): Record<string, string> {
  const size = members + offline
  return size > defaultGroupMembersMax ? { PARLEY_GROUP_MEMBERS_MAX: String(size) } : {}
}

function startBroker(name: BrokerName, options: LoadOptions): Promise<Broker> {
  if (name === 'mosquitto') return startMosquitto()
  if (name !== 'parley') return startNodePeer(name, options.brokerNodeArgs)
  if (options.url === undefined) return startParley(options.brokerNodeArgs, { ...roomFor(options), ...options.brokerSettings })
  return Promise.resolve(runningParley(options.url, options.secret, options.brokerPid))
}

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
        if (faultCount(figures.faults) > 0 && broker.printed() !== '') process.stderr.write(`\n${name} printed:\n${broker.printed()}\n`)
      } finally {
        await broker.stop()
        forget()
      }
    }
  }
  progress.end()
  return series
}

async function execute(scenario: 'direct' | 'group', raw: RawOptions): Promise<void> {
  const options = parseOptions(scenario, raw)
  const startedAt = new Date()
  const series = await runAll(options)
  const out = options.json === '-' ? process.stderr : process.stdout
  out.write(`\n${renderTable(series)}\n\n${renderAudit(series)}\n`)
  if (options.json === '-') process.stdout.write(toJson(options, series, startedAt))
  else if (options.json !== undefined) await writeFile(options.json, toJson(options, series, startedAt))
  const tested = series[0]
  if (tested?.runs.some(({ faults }) => faultCount(faults) > 0)) {
    process.stderr.write(`\n${tested.broker} FAILED: it broke a promise about its messages, see the lines above\n`)
    process.exitCode = 1
  }
}

const collect = (value: string, before: string[]): string[] => [...before, value]

function withCommonOptions(command: Command): Command {
  return command
    .option('--inflight <n>', 'sends that each sender keeps without PUBACK', '16')
    .option('--bytes <n>', 'bytes of a message body', '100')
    .option('--seconds <n>', 'measured seconds', '10')
    .option('--warmup <n>', 'seconds of load before', '3')
    .option('--drain <n>', 'seconds in which everything outstanding must arrive', '30')
    .option('--runs <n>', 'how often; medians are reported', '1')
    .option('--processes <n>', 'load processes', '1')
    .option('--against <broker>', `the same load on a yardstick, in turns: ${peerNames.join(', ')}; may be repeated`, collect, [])
    .option('--peer-only <broker>', 'only the yardstick')
    .option('--url <url>', 'a Parley that runs already, mqtt://host:port; leaves the users of the load behind')
    .option('--secret <secret>', 'its PARLEY_JWT_SECRET')
    .option('--broker-pid <pid>', 'its process, to read CPU time and memory')
    .option('--broker-env <name=value>', 'a setting for the Parley that is started; may be repeated', collect, [])
    .option('--broker-node-args <args>', "flags of node for the broker, such as '--cpu-prof --cpu-prof-dir=profiles'", '')
    .option('--load-node-args <args>', 'flags of node for the load processes', '')
    .option('--json <file>', 'write the report as JSON to a file, or to standard output with -')
}

const program = new Command('loadtest').description(
  'Measures a Parley server and checks that no message is lost, repeated or out of order.',
)
withCommonOptions(program.command('direct'))
  .description('clients in pairs send to each other')
  .option('--clients <n>', 'how many, an even number', '200')
  .action((raw: RawOptions) => execute('direct', raw))
withCommonOptions(program.command('group'))
  .description('members of one group receive what a few of them send')
  .option('--members <n>', 'members that are online', '500')
  .option('--senders <n>', 'members who send', '1')
  .option('--offline <n>', 'further members who are not connected', '0')
  .option('--frozen <n>', 'members who stop reading while it is measured and catch up afterwards', '0')
  .action((raw: RawOptions) => execute('group', raw))

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
