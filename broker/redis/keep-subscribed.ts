/**
 * A subscription that outlives its connection. ioredis subscribes anew by itself, but what it has asked for and not been granted when the
 * next connection breaks it forgets, and the rejection, which nobody handles, ends the process. On a Redis Cluster it listens on a link of its own to
 * one of the nodes: that is made anew without a word, stays silent when subscribing fails then, and is not asked whether it lives.
 */
import { Cluster } from 'ioredis'
import { within } from '../within.js'
import { answerMs, askMs, type RedisConnection } from './connect.js'

/** Rejects when it cannot be subscribed to now. `again` is called whenever messages may have been missed, after it has been subscribed to anew. */
export async function keepSubscribed(redis: RedisConnection, channel: string, again: () => void = ignore): Promise<void> {
  await redis.subscribe(channel)
  redis.on('ready', () => {
    // Nothing is heard on a link on which that fails: it is made anew.
    redis.subscribe(channel).then(again, () => redis.disconnect(true))
  })
  if (redis instanceof Cluster) askLink(redis, channel, again)
}

function askLink(redis: Cluster, channel: string, again: () => void): void {
  let link = linkOf(redis)
  const ask = async (): Promise<void> => {
    if (redis.status !== 'ready') return
    try {
      // Of what is subscribed to already this is a question only.
      await within(answerMs, redis.subscribe(channel))
    } catch {
      return redis.disconnect(true)
    }
    const before = link
    link = linkOf(redis)
    if (link !== before) again()
  }
  const timer = setInterval(() => void ask(), askMs).unref()
  redis.once('end', () => clearInterval(timer))
}

/** ioredis does not tell that it has another one. */
const linkOf = (redis: Cluster): unknown => (redis as unknown as { subscriber: { getInstance(): unknown } }).subscriber.getInstance()

const ignore = (): void => undefined
