/**
 * Who has claimed which device, in Redis: one hash for each user, a field for each device that says which node has it, under which epoch.
 * Every command is about one key, so it works on a Redis Cluster; a claim that is older than what is there changes nothing.
 */
import type { DeviceClaim } from '../device-registry.js'
import type { RedisConnection } from './connect.js'

/** Kept for so long after the last claim of the user: a claim is repeated more often than that. */
const lifeSeconds = 3_600
/** Of the hash, for when the last device went; no device has a slash. */
const goneField = '/gone'

/** ARGV: device, name, epoch, life. Answers what was there before, which stays if its epoch is higher. */
const claimScript = `
local held = redis.call('HGET', KEYS[1], ARGV[1])
local epoch = held and tonumber(string.match(held, ' (%d+)$'))
if epoch and epoch > tonumber(ARGV[3]) then return held end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return held or ''
`
/** ARGV: device, beginning and end of what is there if it is the node's own, when it went, life. */
const releaseScript = `
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or string.sub(held, 1, #ARGV[2]) ~= ARGV[2] or string.sub(held, -#ARGV[3]) ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local gone = tonumber(redis.call('HGET', KEYS[1], '${goneField}') or '0') or 0
if tonumber(ARGV[4]) > gone then redis.call('HSET', KEYS[1], '${goneField}', ARGV[4]) end
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
`
/** ARGV: device, and what is there. */
const dropScript = `if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end`

/** What Redis says of a user. */
export interface UserClaims {
  held: Held[]
  goneTs: number | undefined
}

/** A device in Redis. */
export interface Held {
  device: string
  /** Of the node, as it was when it claimed. */
  name: string
  epoch: number
}

export class Claims {
  readonly #redis: RedisConnection
  readonly #prefix: string

  constructor(redis: RedisConnection, prefix: string) {
    this.#redis = redis
    this.#prefix = prefix
  }

  #key(user: string): string {
    return `${this.#prefix}devices:${user}`
  }

  /** What was there before; undefined: nothing. With a higher epoch it is there still. */
  async claim({ user, device, epoch }: DeviceClaim, name: string): Promise<Held | undefined> {
    const held = await this.#redis.eval(claimScript, 1, this.#key(user), device, name, epoch, lifeSeconds)
    return parseHeld(device, String(held))
  }

  /** Of whatever name of the node. */
  async release({ user, device, epoch }: DeviceClaim, node: string, goneTs: number): Promise<void> {
    await this.#redis.eval(releaseScript, 1, this.#key(user), device, `${node}.`, ` ${epoch}`, goneTs, lifeSeconds)
  }

  /** Takes away a claim of a node that is long dead. */
  async drop(user: string, { device, name, epoch }: Held): Promise<void> {
    await this.#redis.eval(dropScript, 1, this.#key(user), device, `${name} ${epoch}`)
  }

  async of(user: string): Promise<UserClaims> {
    const fields = await this.#redis.hgetall(this.#key(user))
    const held: Held[] = []
    let goneTs: number | undefined
    for (const [field, value] of Object.entries(fields)) {
      const each = parseHeld(field, value)
      if (field === goneField) goneTs = Number(value) || undefined
      else if (each !== undefined) held.push(each)
    }
    return { held, goneTs }
  }
}

function parseHeld(device: string, value: string): Held | undefined {
  const [, name, epoch] = /^(.+) (\d+)$/.exec(value) ?? []
  return name === undefined ? undefined : { device, name, epoch: Number(epoch) }
}
