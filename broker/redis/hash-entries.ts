/** All fields of a Redis hash, read in pieces, so that a large one does not hold Redis up. What changes meanwhile may be seen or not. */
import type { RedisConnection } from './connect.js'

const fieldsAtOnce = 200

export async function* hashEntries(redis: RedisConnection, key: string): AsyncGenerator<{ field: string; value: Buffer }> {
  const seen = new Set<string>()
  let cursor = '0'
  do {
    const [next, pairs] = await redis.hscanBuffer(key, cursor, 'COUNT', fieldsAtOnce)
    for (let at = 0; at + 1 < pairs.length; at += 2) {
      const field = String(pairs[at])
      if (seen.has(field)) continue
      seen.add(field)
      yield { field, value: pairs[at + 1] as Buffer }
    }
    cursor = String(next)
  } while (cursor !== '0')
}
