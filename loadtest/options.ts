/** What the command line decides: the shape of the load, how long it lasts, and on which brokers it is put. */
import { type PeerName, peerNames } from './peers/broker.js'
import type { ScenarioOptions } from './scenarios/plan.js'
import { bodyBytesMin } from './stamp.js'

export interface LoadOptions extends ScenarioOptions {
  inFlight: number
  bodyBytes: number
  seconds: number
  warmupSeconds: number
  drainMs: number
  runs: number
  processes: number
  /** Yardsticks that get the same load, each after each run of Parley. */
  against: PeerName[]
  /** Run only this yardstick. */
  peerOnly?: PeerName
  url?: string
  secret: string
  brokerPid?: number
  brokerSettings: Record<string, string>
  brokerNodeArgs: string[]
  loadNodeArgs: string[]
  /** File for the report as JSON, `-` for standard output. */
  json?: string
}

/** What commander hands over; numbers are still text. */
export interface RawOptions {
  clients?: string
  members?: string
  senders?: string
  offline?: string
  frozen?: string
  inflight: string
  bytes: string
  seconds: string
  warmup: string
  drain: string
  runs: string
  processes: string
  against: string[]
  peerOnly?: string
  url?: string
  secret?: string
  brokerPid?: string
  brokerEnv: string[]
  brokerNodeArgs: string
  loadNodeArgs: string
  json?: string
}

const clientsMax = 20_000
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

function parsePeer(flag: string, value: string): PeerName {
  const peer = peerNames.find((name) => name === value)
  if (peer === undefined) throw new Error(`${flag} is ${value}; there are ${peerNames.join(', ')}`)
  return peer
}

function parseSetting(value: string): [string, string] {
  const equals = value.indexOf('=')
  if (equals < 1) throw new Error(`--broker-env is ${value}; it must look like NAME=value`)
  return [value.slice(0, equals), value.slice(equals + 1)]
}

const words = (value: string): string[] => value.split(/\s+/).filter((word) => word !== '')

function parseScenario(scenario: 'direct' | 'group', raw: RawOptions): ScenarioOptions {
  if (scenario === 'direct') {
    const clients = parseWhole('--clients', raw.clients, 2, clientsMax)
    if (clients % 2 === 1) throw new Error(`--clients is ${clients}; it must be even, as clients come in pairs`)
    return { scenario, clients, members: 0, senders: 0, offline: 0, frozen: 0 }
  }
  const members = parseWhole('--members', raw.members, 2, clientsMax)
  const senders = parseWhole('--senders', raw.senders, 1, members)
  const frozen = parseWhole('--frozen', raw.frozen, 0, members - senders)
  const offline = parseWhole('--offline', raw.offline, 0, clientsMax)
  if (frozen === members - senders && frozen > 0) {
    throw new Error(`--frozen is ${frozen}; at least one of the ${members - senders} members who only receive must stay awake`)
  }
  return { scenario, clients: 0, members, senders, offline, frozen }
}

/** Throws with the first fault of the command line, named by its flag. */
export function parseOptions(scenario: 'direct' | 'group', raw: RawOptions): LoadOptions {
  if (raw.url !== undefined && raw.secret === undefined) throw new Error('--url needs --secret, the PARLEY_JWT_SECRET of that server')
  if (raw.peerOnly !== undefined && raw.against.length > 0) throw new Error('--peer-only and --against exclude each other')
  const options: LoadOptions = {
    ...parseScenario(scenario, raw),
    inFlight: parseWhole('--inflight', raw.inflight, 1, 10_000),
    bodyBytes: parseWhole('--bytes', raw.bytes, bodyBytesMin, bodyBytesMax),
    seconds: parseNumber('--seconds', raw.seconds, 0.1, 24 * 3600),
    warmupSeconds: parseNumber('--warmup', raw.warmup, 0, 3600),
    drainMs: parseNumber('--drain', raw.drain, 1, 3600) * 1000,
    runs: parseWhole('--runs', raw.runs, 1, 1000),
    processes: parseWhole('--processes', raw.processes, 1, 64),
    against: raw.against.flatMap((value) => value.split(',')).map((value) => parsePeer('--against', value)),
    secret: raw.secret ?? '',
    brokerSettings: Object.fromEntries(raw.brokerEnv.map(parseSetting)),
    brokerNodeArgs: words(raw.brokerNodeArgs),
    loadNodeArgs: words(raw.loadNodeArgs),
  }
  if (raw.peerOnly !== undefined) options.peerOnly = parsePeer('--peer-only', raw.peerOnly)
  if (raw.url !== undefined) options.url = raw.url
  if (raw.brokerPid !== undefined) options.brokerPid = parseWhole('--broker-pid', raw.brokerPid, 1, 2 ** 31)
  if (raw.json !== undefined) options.json = raw.json
  return options
}
