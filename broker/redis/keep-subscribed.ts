/**
 * A subscription that outlives its connection. ioredis subscribes anew by itself, but what it has asked for and not been granted when the
 * next connection breaks it forgets, and the rejection, which nobody handles, ends the process.
 */
import type { RedisConnection } from './connect.js'

/** Rejects when it cannot be subscribed to now. `again` is called whenever messages may have been missed, after it has been subscribed to anew. */
export async function keepSubscribed(redis: RedisConnection, channel: string, again: () => void = ignore): Promise<void> {
  await redis.subscribe(channel)
  redis.on('ready', () => {
    // Nothing is heard on a link on which that fails: it is made anew.
    redis.subscribe(channel).then(again, () => redis.disconnect(true))
  })
}

const ignore = (): void => undefined
