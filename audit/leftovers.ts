/**
 * What the servers still hold when all clients have settled: sessions, descriptors, and whether their event loops keep up. Each is
 * given some time to come down to what it should be; the last figures go into the history.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Deployment } from './deployment.js'
import { descriptorsSpare, lagMsMax } from './verdict.js'

export interface Leftovers {
  /** Sessions that the servers count; null when they do not tell. */
  gauge: number | null
  /** Descriptors beyond those of the start; null when it is not known. */
  descriptors: number | null
  /** 99th percentile of the event loop's lag over a moment, the worst of all servers; null when they do not tell. */
  lagMs: number | null
}

const lagSampleMs = 300

/** Over all servers; null when none has it. */
export async function sumOf({ nodes }: Deployment, name: string): Promise<number | null> {
  const values = await Promise.all(nodes.map((node) => node.metric(name)))
  return values.reduce<number | null>((sum, value) => (value === undefined ? sum : (sum ?? 0) + value), null)
}

async function lagOf({ nodes }: Deployment): Promise<number | null> {
  const values = await Promise.all(nodes.map((node) => node.metric('parley_nodejs_eventloop_lag_p99_seconds')))
  const known = values.flatMap((value) => (value === undefined || Number.isNaN(value) ? [] : [value * 1_000]))
  return known.length === 0 ? null : Math.round(Math.max(...known))
}

export const descriptorsOf = ({ nodes }: Deployment): number => nodes.reduce((sum, node) => sum + node.descriptors(), 0)

/** `atStart`: descriptors when nobody was connected; 0: not known. */
export async function readLeftovers(deployment: Deployment, atStart: number): Promise<Leftovers> {
  // Each look at the metrics begins a new measurement.
  const gauge = await sumOf(deployment, 'parley_sessions')
  await delay(lagSampleMs)
  return { gauge, lagMs: await lagOf(deployment), descriptors: atStart === 0 ? null : descriptorsOf(deployment) - atStart }
}

export const isDown = ({ gauge, descriptors, lagMs }: Leftovers, sessions: number): boolean =>
  (gauge === null || gauge === sessions) &&
  (descriptors === null || descriptors <= sessions + descriptorsSpare) &&
  (lagMs === null || lagMs <= lagMsMax)
