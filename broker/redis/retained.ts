/**
 * The retained messages of application topics in a cluster: one hash, by topic. Their number and bytes are bounded together on all nodes; the
 * bytes stand in the hash too, under the topic that no topic is.
 */
import { decodePacket, encodePacket, type OpenPacket } from '../store/open-packet.js'
import type { RedisConnection } from './connect.js'
import { hashEntries } from './hash-entries.js'
import { topicMatches } from './topic-matches.js'

export interface RetainedLimits {
  messagesMax: number
  /** As they are stored. */
  bytesMax: number
}

const bytesField = ''

/** Puts the message, or takes it away when it is empty or there is no room: then what its topic had before is old, and goes. */
const putScript = `
local key, topic, value = KEYS[1], ARGV[1], ARGV[2]
local before = redis.call('HSTRLEN', key, topic)
local bytes = math.max(0, tonumber(redis.call('HGET', key, '${bytesField}') or '0') - before)
local others = redis.call('HLEN', key) - redis.call('HEXISTS', key, '${bytesField}') - redis.call('HEXISTS', key, topic)
local hasRoom = others < tonumber(ARGV[3]) and bytes + #value <= tonumber(ARGV[4])
if #value > 0 and hasRoom then
  redis.call('HSET', key, topic, value, '${bytesField}', bytes + #value)
elseif others == 0 then
  redis.call('DEL', key)
else
  redis.call('HDEL', key, topic)
  redis.call('HSET', key, '${bytesField}', bytes)
end
return (#value == 0 or hasRoom) and 1 or 0`

export class Retained {
  readonly #redis: RedisConnection
  readonly #key: string
  readonly #limits: RetainedLimits

  constructor(redis: RedisConnection, key: string, limits: RetainedLimits) {
    this.#redis = redis
    this.#key = key
    this.#limits = limits
  }

  /** Whether there was room. */
  async put(packet: OpenPacket): Promise<boolean> {
    const { topic = '', payload = '' } = packet
    const value = payload.length === 0 ? '' : encodePacket(packet)
    const { messagesMax, bytesMax } = this.#limits
    return (await this.#redis.eval(putScript, 1, this.#key, topic, value, messagesMax, bytesMax)) === 1
  }

  async *find(patterns: readonly string[]): AsyncGenerator<OpenPacket> {
    if (!patterns.some((pattern) => /[+#]/.test(pattern))) {
      for (const topic of new Set(patterns)) {
        const value = await this.#redis.hgetBuffer(this.#key, topic)
        if (value !== null) yield decodePacket(value).packet
      }
      return
    }
    for await (const { field, value } of hashEntries(this.#redis, this.#key)) {
      if (field !== bytesField && patterns.some((pattern) => topicMatches(pattern, field))) yield decodePacket(value).packet
    }
  }
}
