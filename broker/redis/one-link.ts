/**
 * Publishing in order. A Redis Cluster takes a PUBLISH at any of its nodes, and what is published at two of them may arrive in another order; so
 * all goes to one master, as long as that is there.
 */
import { Cluster } from 'ioredis'
import type { RedisConnection } from './connect.js'

/** Resolves when Redis has taken it. */
export function publishOn(redis: RedisConnection, channel: string, message: Buffer): Promise<number> {
  const link = redis instanceof Cluster ? redis.nodes('master').find(({ status }) => status === 'ready') : redis
  return (link ?? redis).publish(channel, message)
}
