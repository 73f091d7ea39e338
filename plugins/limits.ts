/**
 * Gates `authorizePublish` and `authorizeCall`: how much one user may publish and call, over all devices together, and how large one payload
 * may be. Anonymous clients are counted by device. An oversized publish counts too. Runs first and synchronously, on
 * every publish.
 */
import type { Config } from '../broker/config.js'
import { type Refusal, refuse } from '../broker/errors.js'
import type { Caller, Plugin, PluginServer } from '../broker/plugin.js'
import { bucketsOf, type Clock } from '../broker/rate-buckets.js'
import { targetOf } from '../broker/topics.js'

export const limits = ({ config }: Pick<PluginServer, 'config'>): Plugin => createLimits(config)

export function createLimits(config: Pick<Config, 'rateLimit' | 'payloadBytesMax'>, nowMs?: Clock, bucketsMax?: number): Plugin {
  const buckets = bucketsOf(config.rateLimit, nowMs, bucketsMax)
  const tooMany = (caller: Caller): Refusal | undefined => {
    const waitMs = buckets?.take(keyOf(caller)) ?? 0
    return waitMs > 0 ? refuse('rate_limited', `too many publishes and calls; try again in ${waitMs} ms`, waitMs) : undefined
  }
  return {
    name: 'limits',
    authorizePublish: (caller, { topic, payload }) => {
      const refusal = tooMany(caller)
      if (refusal !== undefined) return refusal
      // An application message may fill a packet.
      if (payload.length <= config.payloadBytesMax || targetOf(topic).kind === 'open') return undefined
      return refuse('too_large', `the payload has ${payload.length} bytes, over the limit of ${config.payloadBytesMax}`)
    },
    authorizeCall: tooMany,
  }
}

// No user id contains a slash, so an anonymous device cannot use up the bucket of a user.
const keyOf = ({ user, device }: Caller): string => (user === '' ? `/${device}` : user)
