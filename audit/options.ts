/** What the command line of `parley prove` decides. Throws OperatorError with the first fault, named by its flag. */
import { OperatorError } from '../broker/operator-error.js'
import { type FaultKind, faultKinds } from './faults.js'
import type { RunOptions } from './run.js'

/** What commander hands over; numbers are still text. */
export interface RawProveOptions {
  minutes: string
  seed?: string
  faults: string
  users: string
  rate: string
  nodes: string
  settle: string
  keep?: string
  html?: string
  json?: string
  judge?: string
}

export interface ProveOptions extends RunOptions {
  /** One: the embedded store; more: a cluster. */
  nodes: number
  /** Folder in which the history stays. */
  keep?: string
  html?: string
  /** `-` is standard output. */
  json?: string
  /** History to judge again, in place of a run. */
  judge?: string
}

const minutesMax = 24 * 60
const usersMin = 8
const usersMax = 5_000
const rateMax = 20_000
const nodesMax = 20
const settleSecondsMax = 3_600
const seedMax = 2 ** 31 - 1

export function parseProveOptions(raw: RawProveOptions): ProveOptions {
  const { keep, html, json, judge } = raw
  return {
    minutes: parseNumber('--minutes', raw.minutes, 0.05, minutesMax),
    seed: raw.seed === undefined ? 1 + Math.floor(Math.random() * seedMax) : parseWhole('--seed', raw.seed, 0, seedMax),
    faults: parseFaults(raw.faults),
    users: parseWhole('--users', raw.users, usersMin, usersMax),
    rate: parseNumber('--rate', raw.rate, 1, rateMax),
    nodes: parseWhole('--nodes', raw.nodes, 1, nodesMax),
    healMsMax: 1_000 * parseNumber('--settle', raw.settle, 1, settleSecondsMax),
    ...(keep === undefined ? {} : { keep }),
    ...(html === undefined ? {} : { html }),
    ...(json === undefined ? {} : { json }),
    ...(judge === undefined ? {} : { judge }),
  }
}

function parseNumber(flag: string, value: string, low: number, high: number): number {
  const number = Number(value)
  if (value.trim() === '' || !(number >= low && number <= high))
    throw new OperatorError(`${flag} is ${value}; it must be a number from ${low} to ${high}`)
  return number
}

function parseWhole(flag: string, value: string, low: number, high: number): number {
  const number = parseNumber(flag, value, low, high)
  if (!Number.isInteger(number)) throw new OperatorError(`${flag} is ${value}; it must be a whole number`)
  return number
}

/** `all`, `none`, names, or `all` without some: `all,-disk`. */
function parseFaults(value: string): FaultKind[] {
  const chosen = new Set<FaultKind>()
  for (const word of value.split(',').map((part) => part.trim())) {
    if (word === 'all') faultKinds.forEach((kind) => chosen.add(kind))
    else if (word !== 'none' && word !== '') {
      const name = word.replace(/^-/, '')
      const kind = faultKinds.find((each) => each === name)
      if (kind === undefined) throw new OperatorError(`--faults names ${word}; there are ${faultKinds.join(', ')}, and all and none`)
      if (word === name) chosen.add(kind)
      else chosen.delete(kind)
    }
  }
  return faultKinds.filter((kind) => chosen.has(kind))
}
