/**
 * Gate `authorizePublish`: how much one user may publish, over all devices together, and how large one payload may
 * be. Anonymous clients are counted by device. An oversized publish counts too. Runs first and synchronously, on
 * every publish.
 */
import type { Config } from '../broker/config.js'
import { refuse } from '../broker/errors.js'
import type { Caller, Plugin, PluginServer } from '../broker/plugin.js'
import type { RateLimit } from '../broker/setting-kinds.js'
import { targetOf } from '../broker/topics.js'

interface Bucket {
  tokens: number
  filledMs: number
}

type Clock = () => number

/** So that who waits exactly as long as told is let through. */
const roundingError = 1e-6

export const limits = ({ config }: Pick<PluginServer, 'config'>): Plugin => createLimits(config, () => performance.now())

/** `nowMs` never runs backwards. At most `bucketsMax` users are remembered twice over. */
export function createLimits(config: Pick<Config, 'rateLimit' | 'payloadBytesMax'>, nowMs: Clock, bucketsMax = 100_000): Plugin {
  const take = config.rateLimit === undefined ? () => 0 : createBuckets(config.rateLimit, nowMs, bucketsMax)
  return {
    name: 'limits',
    authorizePublish: (caller, { topic, payload }) => {
      const waitMs = take(keyOf(caller))
      if (waitMs > 0) return refuse('rate_limited', `too many publishes; try again in ${waitMs} ms`, waitMs)
      // An application message may fill a packet.
      if (payload.length <= config.payloadBytesMax || targetOf(topic).kind === 'open') return undefined
      return refuse('too_large', `the payload has ${payload.length} bytes, over the limit of ${config.payloadBytesMax}`)
    },
  }
}

// No user id contains a slash, so an anonymous device cannot use up the bucket of a user.
const keyOf = ({ user, device }: Caller): string => (user === '' ? `/${device}` : user)

/** Takes one token: 0, or the ms until there is one. */
function createBuckets({ perSecond, burst }: RateLimit, nowMs: Clock, bucketsMax: number): (key: string) => number {
  const perMs = perSecond / 1000
  const refillMs = burst / perMs
  // A bucket that was not used for `refillMs` is full, as a new one is, so dropping the older generation loses nothing,
  // except past bucketsMax, where memory is worth more than an exact count.
  let recent = new Map<string, Bucket>()
  let older = new Map<string, Bucket>()
  let turnedMs = nowMs()

  function bucketOf(key: string, now: number): Bucket {
    if (now - turnedMs >= refillMs || recent.size >= bucketsMax) {
      older = recent
      recent = new Map()
      turnedMs = now
    }
    let bucket = recent.get(key)
    if (bucket === undefined) {
      bucket = older.get(key) ?? { tokens: burst, filledMs: now }
      recent.set(key, bucket)
    }
    return bucket
  }

  return (key) => {
    const now = nowMs()
    const bucket = bucketOf(key, now)
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.filledMs) * perMs)
    bucket.filledMs = now
    if (bucket.tokens < 1 - roundingError) return Math.max(1, Math.ceil((1 - bucket.tokens) / perMs))
    bucket.tokens = Math.max(0, bucket.tokens - 1)
    return 0
  }
}
