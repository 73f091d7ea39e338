/** The commands and flags of the load tool, one command for each scenario. */
import { Command } from 'commander'
import type { RawOptions } from './options.js'
import { peerNames } from './peers/broker.js'
import type { Scenario } from './scenarios/plan.js'
import { transports } from './wire.js'

const collect = (value: string, before: string[]): string[] => [...before, value]

function withCommonOptions(command: Command): Command {
  return command
    .option('--inflight <n>', 'sends that each sender keeps without PUBACK, unless there is a --rate', '16')
    .option('--bytes <n>', 'bytes of a message body', '100')
    .option('--seconds <n>', 'measured seconds', '10')
    .option('--warmup <n>', 'seconds of load before', '3')
    .option('--drain <n>', 'seconds in which everything outstanding must arrive', '30')
    .option('--runs <n>', 'how often; medians are reported', '1')
    .option('--processes <n>', 'load processes', '1')
    .option('--transport <name>', `${transports.join(', ')} (default: that of --url, or tcp)`)
    .option('--persistent', 'sessions with clean=false, on every broker')
    .option('--against <broker>', `the same load on a yardstick, in turns: ${peerNames.join(', ')}; may be repeated`, collect, [])
    .option('--peer-only <broker>', 'only the yardstick')
    .option('--nodes <n>', 'a cluster of so many nodes on a Redis and a store of its own, in place of one node on the embedded store')
    .option('--store-dir <folder>', 'where that store keeps what it has; below /dev/shm its commits cost nothing')
    .option(
      '--url <url>',
      'a Parley that runs already: mqtt://, mqtts://, ws:// or wss://host:port; may be repeated, one for each node; leaves the users of the load behind',
      collect,
      [],
    )
    .option('--secret <secret>', 'its PARLEY_JWT_SECRET')
    .option('--ca <file>', 'PEM of the authority that signed its certificate')
    .option('--insecure', 'take any certificate')
    .option('--broker-pid <pid>', 'its process, to read CPU time and memory; may be repeated', collect, [])
    .option('--broker-env <name=value>', 'a setting for the Parley that is started; may be repeated', collect, [])
    .option('--broker-node-args <args>', "flags of node for the broker, such as '--cpu-prof --cpu-prof-dir=profiles'", '')
    .option('--load-node-args <args>', 'flags of node for the load processes', '')
    .option('--json <file>', 'write the report as JSON to a file, or to standard output with -')
    .option('--html <file>', 'write the report as one HTML file with plots')
}

const withRamp = (command: Command): Command => command.option('--ramp <n>', 'seconds, before the warm-up, in which the load rises', '0')

const withRate = (command: Command): Command =>
  withRamp(command).option('--rate <n>', 'messages/s of all clients together, sent on schedule whatever the broker does: an open loop')

const withReturn = (command: Command): Command =>
  command.option('--within <n>', 'sessions come back within so many seconds; 0: all at once', '0')

/** `execute` carries out the scenario that the command line names. */
export function createProgram(execute: (scenario: Scenario, raw: RawOptions) => Promise<void>): Command {
  const program = new Command('loadtest').description(
    'Measures a Parley server and checks that no message is lost, repeated or out of order.',
  )
  const scenario = (name: Scenario, what: string): Command =>
    withCommonOptions(program.command(name).description(what)).action((raw: RawOptions) => execute(name, raw))
  withRate(scenario('direct', 'clients in pairs send to each other')).option('--clients <n>', 'how many, an even number', '200')
  withRate(scenario('group', 'members of one group receive what a few of them send'))
    .option('--members <n>', 'members that are online', '500')
    .option('--senders <n>', 'members who send', '1')
    .option('--offline <n>', 'further members who are not connected', '0')
    .option('--frozen <n>', 'members who stop reading while it is measured and catch up afterwards', '0')
  withRamp(scenario('connections', 'many idle sessions, then a trickle of messages among them'))
    .option('--clients <n>', 'how many, an even number up to 100,000', '5000')
    .option('--rate <n>', 'messages/s of the trickle', '100')
    .option(
      '--connect-first <n>',
      'others who connect and leave before, so that no broker is measured while it warms up (default: 3000, at most --clients; with --url 0)',
    )
  withReturn(scenario('reconnect-storm', 'persistent sessions are cut off and come back all at once'))
    .option('--clients <n>', 'how many, an even number', '1000')
    .option('--restart', 'start the broker again in between')
    .option('--kill-node', 'kill one node of a cluster: only its sessions are cut off, and come back on the others')
  withReturn(scenario('backlog', 'persistent sessions come back to messages that wait for them'))
    .option('--clients <n>', 'sessions that come back', '100')
    .option('--messages <n>', 'messages that wait for each', '1000')
    .option('--senders <n>', 'clients who write them', '10')
  withRamp(scenario('mixed', 'a day of a messenger: chats and groups, read positions, history, sessions that come and go'))
    .option('--clients <n>', 'users, each with one persistent session', '500')
    .option('--rate <n>', 'messages/s of all users together, on schedule', '500')
    .option('--friends <n>', 'direct conversations of a user, on average', '8')
    .option('--groups <n>', 'groups', '20')
    .option('--group-size <n>', 'members of the largest; the others are smaller', '50')
    .option('--group-share <n>', 'share of the messages that go to groups, 0 to 1', '0.3')
    .option('--skew <n>', 'how unequal users are: 0 all alike, 1 the second busiest half as busy as the busiest', '0.7')
    .option('--reads <n>', 'read positions/s (default: half the rate)')
    .option('--calls <n>', 'calls/s of history, sync, receipts and conversations (default: a twentieth of the rate)')
    .option('--typing <n>', 'typing signals/s (default: three tenths of the rate)')
    .option('--acts <n>', 'recalls, edits and reactions/s (default: a twentieth of the rate)')
    .option('--leaves <n>', 'sessions that leave each second', '2')
    .option('--away <n>', 'seconds after which they come back', '3')
    .option('--seed <n>', 'the same seed makes the same people', '1')
  return program
}
