/**
 * Which nodes of a cluster live: one Redis hash, in which each writes the time of its last beat by the clock of Redis, so that no other clock
 * counts. A node that missed its lease, or whose entry is gone, has to join anew under another name: what it claimed before is void.
 */
import type { RedisConnection } from './connect.js'

export const beatMs = 1_000
/** A node that has not beaten for so long is dead. */
const leaseMs = 7_000
/**
 * Time for all nodes to join again after Redis has lost what it knew: a connection comes back within 2 s, and beats at once. Until then nobody
 * is known to be dead.
 */
const joinMs = 5_000
/** What is older than this is not used. */
const oldMs = 3_000
/** The last beat of a dead node says when its users were last seen. */
const forgottenMs = 24 * 3_600_000

/** KEYS: nodes. ARGV: name, 1 while it is still claiming, 1 to join, lease, forgotten. Answers now, 1 when it must join anew, and all nodes. */
const beatScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beaten = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+'))
local isVoid = ARGV[3] == '0' and (not beaten or now - beaten > tonumber(ARGV[4]))
if not isVoid then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now, ARGV[2]))
  redis.call('HSETNX', KEYS[1], 'born', string.format('%.0f', now))
end
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local last = tonumber(string.match(all[at + 1], '^%d+'))
  if all[at] ~= 'born' and (not last or now - last > tonumber(ARGV[5])) then redis.call('HDEL', KEYS[1], all[at]) end
end
return {string.format('%.0f', now), isVoid and 1 or 0, all}
`

interface Beat {
  ts: number
  isClaiming: boolean
}

interface View {
  /** Monotonic, of this process. */
  readMs: number
  /** Of Redis. */
  nowTs: number
  bornTs: number
  nodes: ReadonlyMap<string, Beat>
}

export class LivingNodes {
  readonly #redis: RedisConnection
  readonly #key: string
  readonly #node: string
  #joined = 0
  #view: View | undefined
  #doubtedMs = Number.NEGATIVE_INFINITY

  /** `node` has no dot behind the last one of its own. */
  constructor(redis: RedisConnection, prefix: string, node: string) {
    this.#redis = redis
    this.#key = `${prefix}nodes`
    this.#node = node
  }

  /** Under which this node claims now. */
  get name(): string {
    return `${this.#node}.${this.#joined}`
  }

  /** Whether a name is one of this node, now or before. */
  isOwn(name: string): boolean {
    return nodeOf(name) === this.#node
  }

  /** What is known may have been lost with the last connection. */
  doubt(): void {
    this.#doubtedMs = performance.now()
  }

  /** Writes the beat and reads those of all. False: this node has lost its lease and has joined anew. Rejects when Redis does not answer. */
  async beat(isClaiming: boolean): Promise<boolean> {
    if (this.#joined > 0 && !(await this.#write(isClaiming, false))) {
      this.doubt()
      this.#joined++
      await this.#write(true, true)
      return false
    }
    if (this.#joined > 0) return true
    this.#joined++
    return this.#write(isClaiming, true)
  }

  async #write(isClaiming: boolean, joins: boolean): Promise<boolean> {
    const readMs = performance.now()
    const args = [this.name, isClaiming ? 1 : 0, joins ? 1 : 0, leaseMs, forgottenMs]
    const [now, isVoid, all] = (await this.#redis.eval(beatScript, 1, this.#key, ...args)) as [string, number, string[]]
    const nodes = new Map<string, Beat>()
    let bornTs = 0
    for (let at = 0; at + 1 < all.length; at += 2) {
      const [name, value] = [all[at] as string, all[at + 1] as string]
      const [ts, claiming] = value.split(' ')
      if (name === 'born') bornTs = Number(ts)
      else nodes.set(name, { ts: Number(ts), isClaiming: claiming === '1' })
    }
    // Who looked away for long does not know whether the others could beat meanwhile.
    if (this.#view !== undefined && readMs - this.#view.readMs > oldMs) this.doubt()
    this.#view = { readMs, nowTs: Number(now), bornTs, nodes }
    return isVoid === 0
  }

  /** Whether the nodes are known; when not, nothing can be said of any. */
  get isKnown(): boolean {
    return this.#view !== undefined && performance.now() - this.#view.readMs < oldMs
  }

  /** Whether it was known, at this monotonic time or later, that somebody is nowhere: all living nodes have claimed what they have. */
  isWhole(sinceMs = 0): boolean {
    const view = this.#view
    if (view === undefined || !this.isKnown || view.readMs < sinceMs) return false
    if (view.nowTs - view.bornTs < joinMs || performance.now() - this.#doubtedMs < joinMs) return false
    return ![...view.nodes].some(([name, { isClaiming }]) => isClaiming && this.lives(name))
  }

  /** undefined: not heard of. */
  lives(name: string): boolean | undefined {
    const view = this.#view
    const beat = view?.nodes.get(name)
    if (view === undefined || beat === undefined) return undefined
    return view.nowTs + performance.now() - view.readMs - beat.ts <= leaseMs
  }

  /** Its last beat, ms since 1970. */
  lastBeatTs(name: string): number | undefined {
    return this.#view?.nodes.get(name)?.ts
  }

  /** Names of those that live, this one included. */
  living(): string[] {
    return [...(this.#view?.nodes.keys() ?? [])].filter((name) => this.lives(name))
  }
}

export const nodeOf = (name: string): string => name.slice(0, name.lastIndexOf('.'))
