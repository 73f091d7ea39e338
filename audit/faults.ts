/**
 * The faults: their kinds, and the schedule that a seed draws of them. A schedule is fixed before the run begins; what a
 * fault does when its time has come stands in `inflict.ts`.
 */
import { createRandom, pick, type Random, shuffle } from './random.js'

interface Kind {
  /** `server` and `cluster` (only with several nodes): one at a time; `client`: many at once; `steady`: part of the whole run. */
  scope: 'server' | 'cluster' | 'client' | 'steady'
  meaning: string
  /** Share among its scope. */
  weight: number
}

export const kinds = {
  kill: { scope: 'server', weight: 4, meaning: 'kill -9 of the server, then a new start' },
  restart: { scope: 'server', weight: 2, meaning: 'SIGTERM, then a new start' },
  stall: { scope: 'server', weight: 2, meaning: 'SIGSTOP of the server for 2 to 6 s, then SIGCONT' },
  disk: { scope: 'server', weight: 1, meaning: 'the disk is full for 1 to 4 s, half of the time with a kill -9 meanwhile' },
  clock: { scope: 'server', weight: 1, meaning: 'the server’s wall clock jumps an hour ahead or back, and returns' },
  pause: { scope: 'cluster', weight: 1, meaning: 'SIGSTOP of a node for 30 s, or a quarter of a short run, then SIGCONT' },
  rolling: { scope: 'cluster', weight: 1, meaning: 'SIGTERM and a new start of node after node' },
  'redis-kill': { scope: 'cluster', weight: 2, meaning: 'kill -9 of Redis, and a new start within 6 s' },
  'redis-flush': { scope: 'cluster', weight: 2, meaning: 'FLUSHALL' },
  'redis-cut': { scope: 'cluster', weight: 2, meaning: 'CLIENT KILL TYPE pubsub' },
  'store-kill': { scope: 'cluster', weight: 2, meaning: 'kill -9 of the store, and a new start within 6 s' },
  'store-slow': { scope: 'cluster', weight: 1, meaning: 'the store takes 2 s longer for all nodes, for 5 to 10 s' },
  'no-redis': { scope: 'cluster', weight: 2, meaning: 'a node is cut off from Redis for 2 to 12 s' },
  'no-store': { scope: 'cluster', weight: 2, meaning: 'a node is cut off from the store for 2 to 12 s' },
  cut: { scope: 'client', weight: 5, meaning: 'the connections of some clients are closed' },
  reset: { scope: 'client', weight: 5, meaning: 'the connections of some clients are reset' },
  delay: { scope: 'client', weight: 3, meaning: 'everything takes 50 to 500 ms longer for some clients' },
  trickle: { scope: 'client', weight: 2, meaning: 'some clients get 1 to 20 kB/s' },
  'half-open': { scope: 'client', weight: 3, meaning: 'connections fall silent and neither end is told' },
  freeze: { scope: 'client', weight: 4, meaning: 'clients stop reading' },
  withhold: { scope: 'client', weight: 4, meaning: 'clients read and send no PUBACK, then break off or catch up' },
  away: { scope: 'client', weight: 4, meaning: 'clients are gone for seconds' },
  repeat: { scope: 'client', weight: 5, meaning: 'the last messages of some clients are sent a second time, acknowledged or not' },
  'same-id': { scope: 'client', weight: 6, meaning: 'all devices of a user send the same id' },
  'same-device': { scope: 'client', weight: 3, meaning: 'a device connects while it is connected' },
  members: { scope: 'client', weight: 12, meaning: 'members are added, removed, or leave' },
  mute: { scope: 'client', weight: 2, meaning: 'a member of a group is muted for a while' },
  people: { scope: 'client', weight: 4, meaning: 'a user blocks a friend for a while, or two become friends' },
  media: { scope: 'client', weight: 4, meaning: 'somebody uploads a file and sends it' },
  token: { scope: 'steady', weight: 0, meaning: 'one client in fifteen has tokens that last seconds' },
  fuzz: { scope: 'steady', weight: 0, meaning: 'malformed packets over TCP and WebSocket beside the chat' },
} as const satisfies Record<string, Kind>

export type FaultKind = keyof typeof kinds
export const faultKinds = Object.keys(kinds) as FaultKind[]

export interface PlannedFault {
  ms: number
  kind: FaultKind
  /** Whatever must be chosen for it is chosen by this. */
  seed: number
}

/** Servers need time to come back and to be in use again before the next one; in a short run they get less. */
const serverEveryMsUsual = 6_000
/** Share of the clients that are in trouble at a time grows with it. */
const clientEveryMs = 250

export const scopeOf = (kind: string): Kind['scope'] | undefined =>
  faultKinds.find((each) => each === kind) && kinds[kind as FaultKind].scope
export const isSteady = (kind: FaultKind): boolean => kinds[kind].scope === 'steady'

/** In order of time. Every kind comes once, and then by weight. */
export function planFaults(seed: number, runMs: number, chosen: readonly FaultKind[], serverEveryMs = serverEveryMsUsual): PlannedFault[] {
  const random = createRandom(seed)
  const plan = [
    ...planScope(
      random,
      runMs,
      chosen.filter((kind) => kinds[kind].scope === 'server' || kinds[kind].scope === 'cluster'),
      serverEveryMs,
    ),
    ...planScope(
      random,
      runMs,
      chosen.filter((kind) => kinds[kind].scope === 'client'),
      clientEveryMs,
    ),
  ]
  return plan.sort((a, b) => a.ms - b.ms)
}

/** The first round takes no longer than the run, however unlucky. */
function planScope(random: Random, runMs: number, chosen: readonly FaultKind[], usualMs: number): PlannedFault[] {
  if (chosen.length === 0) return []
  const once = shuffle(random, chosen)
  const everyMs = Math.max(1, Math.floor(Math.min(usualMs, runMs / (1.5 * chosen.length))))
  const byWeight = chosen.flatMap((kind) => Array.from({ length: kinds[kind].weight }, () => kind))
  const plan: PlannedFault[] = []
  for (let ms = everyMs / 2 + random(everyMs); ms < runMs; ms += everyMs / 2 + random(everyMs)) {
    plan.push({ ms: Math.round(ms), kind: once.pop() ?? pick(random, byWeight), seed: random(2 ** 31) })
  }
  return plan
}
