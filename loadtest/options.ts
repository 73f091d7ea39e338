/** What the command line decides: the shape of the load, how long it lasts, and on which brokers it is put. */
import { type PeerName, peerNames } from './peers/broker.js'
import { parseUrl } from './peers/parley.js'
import type { MixedShape } from './scenarios/mixed.js'
import type { Scenario, ScenarioOptions } from './scenarios/plan.js'
import { bodyBytesMin } from './stamp.js'
import { type Endpoint, type Transport, transports } from './wire.js'

export interface LoadOptions extends ScenarioOptions {
  inFlight: number
  bodyBytes: number
  seconds: number
  warmupSeconds: number
  drainMs: number
  runs: number
  processes: number
  transport: Transport
  /** Sessions with clean=false. */
  persistent: boolean
  /** Messages per second of all clients: an open loop; absent: a closed one. */
  rate?: number
  rampMs: number
  /** In `connections`: so many others connect and leave before. */
  connectFirst: number
  /** Between cut and return the broker is started again. */
  restart: boolean
  /** Sessions come back within so long. */
  withinMs: number
  /** Yardsticks that get the same load, each after each run of Parley. */
  against: PeerName[]
  /** Run only this yardstick. */
  peerOnly?: PeerName
  /** The nodes of a Parley that runs already; none: the tool starts one. */
  running: Endpoint[]
  secret: string
  brokerPids: number[]
  /** Nodes of the cluster that the tool starts; absent: one node on the embedded store. */
  nodes?: number
  /** Where the store of that cluster keeps what it has. */
  storeDir?: string
  /** In a storm: one node is killed, and its sessions come back on the others. */
  killNode: boolean
  brokerSettings: Record<string, string>
  brokerNodeArgs: string[]
  loadNodeArgs: string[]
  /** File for the report as JSON, `-` for standard output. */
  json?: string
  html?: string
}

/** What commander hands over; numbers are still text. Absent is what a scenario does not have. */
export interface RawOptions {
  clients?: string
  members?: string
  senders?: string
  offline?: string
  frozen?: string
  messages?: string
  friends?: string
  groups?: string
  groupSize?: string
  groupShare?: string
  skew?: string
  reads?: string
  calls?: string
  typing?: string
  acts?: string
  leaves?: string
  away?: string
  seed?: string
  rate?: string
  ramp?: string
  connectFirst?: string
  restart?: boolean
  within?: string
  persistent?: boolean
  transport?: string
  ca?: string
  insecure?: boolean
  inflight: string
  bytes: string
  seconds: string
  warmup: string
  drain: string
  runs: string
  processes: string
  against: string[]
  peerOnly?: string
  url: string[]
  nodes?: string
  storeDir?: string
  killNode?: boolean
  secret?: string
  brokerPid: string[]
  brokerEnv: string[]
  brokerNodeArgs: string
  loadNodeArgs: string
  json?: string
  html?: string
}

const clientsMax = 100_000
const connectFirstDefault = 3_000
const nodesMax = 32
const messagesMax = 1_000_000
const backlogMax = 10_000_000
const rateMax = 1_000_000
const bodyBytesMax = 64 * 1024

function parseNumber(flag: string, value: string | undefined, low: number, high: number): number {
  const number = Number(value)
  if (value === undefined || value === '' || !(number >= low && number <= high)) {
    throw new Error(`${flag} is ${value}; it must be a number from ${low} to ${high}`)
  }
  return number
}

function parseWhole(flag: string, value: string | undefined, low: number, high: number): number {
  const number = parseNumber(flag, value, low, high)
  if (!Number.isInteger(number)) throw new Error(`${flag} is ${value}; it must be a whole number`)
  return number
}

function parseName<Name extends string>(flag: string, value: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === value)
  if (found === undefined) throw new Error(`${flag} is ${value}; there are ${names.join(', ')}`)
  return found
}

function parseSetting(value: string): [string, string] {
  const equals = value.indexOf('=')
  if (equals < 1) throw new Error(`--broker-env is ${value}; it must look like NAME=value`)
  return [value.slice(0, equals), value.slice(equals + 1)]
}

const words = (value: string): string[] => value.split(/\s+/).filter((word) => word !== '')

function parsePairs(raw: RawOptions): number {
  const clients = parseWhole('--clients', raw.clients, 2, clientsMax)
  if (clients % 2 === 1) throw new Error(`--clients is ${clients}; it must be even, as clients come in pairs`)
  return clients
}

function parseMembers(raw: RawOptions): Pick<ScenarioOptions, 'members' | 'senders' | 'offline' | 'frozen'> {
  const members = parseWhole('--members', raw.members, 2, clientsMax)
  const senders = parseWhole('--senders', raw.senders, 1, members)
  const frozen = parseWhole('--frozen', raw.frozen, 0, members - senders)
  const offline = parseWhole('--offline', raw.offline, 0, clientsMax)
  if (frozen === members - senders && frozen > 0) {
    throw new Error(`--frozen is ${frozen}; at least one of the ${members - senders} members who only receive must stay awake`)
  }
  return { members, senders, offline, frozen }
}

function parseMixed(raw: RawOptions, clients: number, rate: number): MixedShape {
  const share = (flag: string, value: string | undefined, part: number): number =>
    value === undefined ? rate * part : parseNumber(flag, value, 0, rateMax)
  const shape: MixedShape = {
    friends: parseNumber('--friends', raw.friends, 1, 1_000),
    groups: parseWhole('--groups', raw.groups, 0, 10_000),
    groupSize: parseWhole('--group-size', raw.groupSize, 3, clientsMax),
    groupShare: parseNumber('--group-share', raw.groupShare, 0, 1),
    skew: parseNumber('--skew', raw.skew, 0, 10),
    readsPerSecond: share('--reads', raw.reads, 0.5),
    callsPerSecond: share('--calls', raw.calls, 0.05),
    typingPerSecond: share('--typing', raw.typing, 0.3),
    actsPerSecond: share('--acts', raw.acts, 0.05),
    leavesPerSecond: parseNumber('--leaves', raw.leaves, 0, rateMax),
    awayMs: parseNumber('--away', raw.away, 0, 3600) * 1000,
    seed: parseWhole('--seed', raw.seed, 0, 2 ** 32 - 1),
  }
  const awayOnAverage = (shape.leavesPerSecond * shape.awayMs) / 1000
  if (awayOnAverage > clients / 2) {
    throw new Error(`--leaves × --away is ${awayOnAverage}: more than half of the ${clients} clients would be away`)
  }
  return shape
}

function parseScenario(scenario: Scenario, raw: RawOptions, rate: number | undefined): ScenarioOptions {
  const none = { clients: 0, members: 0, senders: 0, offline: 0, frozen: 0, messages: 0 }
  if (scenario === 'group') return { ...none, scenario, ...parseMembers(raw) }
  if (scenario === 'backlog') {
    const clients = parseWhole('--clients', raw.clients, 1, clientsMax)
    const messages = parseWhole('--messages', raw.messages, 1, messagesMax)
    if (clients * messages > backlogMax) throw new Error(`--clients × --messages is ${clients * messages}; at most ${backlogMax}`)
    return { ...none, scenario, clients, messages, senders: parseWhole('--senders', raw.senders, 1, clients) }
  }
  if (scenario === 'mixed') {
    const clients = parseWhole('--clients', raw.clients, 3, clientsMax)
    return { ...none, scenario, clients, mixed: parseMixed(raw, clients, rate ?? 0) }
  }
  return { ...none, scenario, clients: parsePairs(raw) }
}

type Brokers = Pick<LoadOptions, 'against' | 'transport' | 'running' | 'brokerPids'> & Partial<LoadOptions>

function parseBrokers(raw: RawOptions): Brokers {
  if (raw.url.length > 0 && raw.secret === undefined) throw new Error('--url needs --secret, the PARLEY_JWT_SECRET of that server')
  if (raw.peerOnly !== undefined && raw.against.length > 0) throw new Error('--peer-only and --against exclude each other')
  const trust = { insecure: raw.insecure === true, ...(raw.ca === undefined ? {} : { caFile: raw.ca }) }
  const running = raw.url.flatMap((value) => value.split(',')).map((url) => parseUrl(url, trust))
  if (raw.nodes !== undefined && running.length > 0) throw new Error('--nodes and --url exclude each other')
  const wanted = raw.transport === undefined ? undefined : parseName('--transport', raw.transport, transports)
  const transport = wanted ?? running[0]?.transport ?? 'tcp'
  if (running.some((endpoint) => endpoint.transport !== transport)) throw new Error(`--transport is ${transport}, but --url is ${raw.url}`)
  const against = raw.against.flatMap((value) => value.split(',')).map((value) => parseName('--against', value, peerNames))
  const brokerPids = raw.brokerPid.map((value) => parseWhole('--broker-pid', value, 1, 2 ** 31))
  const brokers: Brokers = { against, transport, running, brokerPids }
  if (raw.nodes !== undefined) brokers.nodes = parseWhole('--nodes', raw.nodes, 1, nodesMax)
  if (raw.storeDir !== undefined) brokers.storeDir = raw.storeDir
  if (raw.peerOnly !== undefined) brokers.peerOnly = parseName('--peer-only', raw.peerOnly, peerNames)
  return brokers
}

/** Throws with the first fault of the command line, named by its flag. */
export function parseOptions(scenario: Scenario, raw: RawOptions): LoadOptions {
  const rate = raw.rate === undefined ? undefined : parseNumber('--rate', raw.rate, 0.01, rateMax)
  const brokers = parseBrokers(raw)
  const peers = [...brokers.against, brokers.peerOnly]
  const returns = scenario === 'reconnect-storm' || scenario === 'mixed'
  if (raw.restart === true && raw.killNode === true) throw new Error('--restart and --kill-node exclude each other')
  if (raw.restart === true && brokers.running.length > 0)
    throw new Error('--restart: the tool cannot start a server again that it has not started')
  const shape = parseScenario(scenario, raw, rate)
  // A server that runs already is warm, and keeps whoever has connected to it.
  const first = scenario === 'connections' && brokers.running.length === 0 ? Math.min(connectFirstDefault, shape.clients) : 0
  const options: LoadOptions = {
    ...shape,
    ...brokers,
    inFlight: parseWhole('--inflight', raw.inflight, 1, 10_000),
    bodyBytes: parseWhole('--bytes', raw.bytes, bodyBytesMin, bodyBytesMax),
    seconds: parseNumber('--seconds', raw.seconds, 0.1, 24 * 3600),
    warmupSeconds: parseNumber('--warmup', raw.warmup, 0, 3600),
    drainMs: parseNumber('--drain', raw.drain, 1, 3600) * 1000,
    runs: parseWhole('--runs', raw.runs, 1, 1000),
    processes: parseWhole('--processes', raw.processes, 1, 64),
    // Aedes on Redis is measured with persistent sessions; whoever is compared with it gets the same.
    persistent: raw.persistent === true || returns || peers.includes('aedes-redis'),
    rampMs: parseNumber('--ramp', raw.ramp ?? '0', 0, 3600) * 1000,
    connectFirst: parseWhole('--connect-first', raw.connectFirst ?? String(first), 0, clientsMax),
    restart: raw.restart === true,
    killNode: raw.killNode === true,
    withinMs: parseNumber('--within', raw.within ?? '0', 0, 3600) * 1000,
    secret: raw.secret ?? '',
    brokerSettings: Object.fromEntries(raw.brokerEnv.map(parseSetting)),
    brokerNodeArgs: words(raw.brokerNodeArgs),
    loadNodeArgs: words(raw.loadNodeArgs),
  }
  if (rate !== undefined) options.rate = rate
  if (raw.json !== undefined) options.json = raw.json
  if (raw.html !== undefined) options.html = raw.html
  return options
}
