/**
 * Connections to Redis, of which a caller opens one for commands and one for subscriptions. While Redis is away a command
 * rejects, at once or within `answerMs`; nothing is queued and nothing sent twice. The connection comes back by itself, for ever, and a
 * link on which nothing comes any more is broken and made anew; subscriptions are kept by `keepSubscribed`. One line is
 * logged when it goes and one when it is back. Nothing of user or password is logged or thrown.
 */
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import type { Logger } from '../logger.js'
import { OperatorError } from '../operator-error.js'
import { within } from '../within.js'
import { parseRedisUrl, type RedisAddress } from './redis-url.js'

export type RedisConnection = Redis | Cluster

export interface RedisConnectOptions {
  /** As PARLEY_REDIS_URL. */
  url: string
  logger: Logger
  /** What it is for, as Redis shows it in CLIENT LIST. */
  name: string
}

/** A command without an answer for so long is rejected. */
export const answerMs = 2_000
const connectMs = 5_000
/** How often a link is asked whether it lives; one without an answer is broken `answerMs` later. */
export const askMs = 2_500
const retryMsMin = 50
const retryMsMax = 2_000

const retryMs = (times: number): number =>
  Math.round(Math.min(retryMsMax, retryMsMin * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2))

/** Rejects with OperatorError when Redis cannot be reached or used now. */
export async function connectRedis({ url, logger, name }: RedisConnectOptions): Promise<RedisConnection> {
  const address = parseRedisUrl(url)
  const redis = address.kind === 'cluster' ? toCluster(address, name) : toServer(address, name)
  const faults = watch(redis, logger, name)
  try {
    await within(connectMs, redis.connect())
    // A link to a master is made with its first command, which later ones may overtake.
    if (redis instanceof Cluster) await Promise.allSettled(redis.nodes('master').map((link) => link.ping()))
  } catch (error) {
    redis.disconnect()
    const hosts = address.hosts.map(({ host, port }) => `${host}:${port}`).join(', ')
    throw new OperatorError(`PARLEY_REDIS_URL cannot be used: ${hosts} says: ${faults.last ?? (error as Error).message}`)
  }
  keepAsking(redis)
  return redis
}

const common = (address: RedisAddress, name: string): RedisOptions => ({
  ...(address.username === undefined ? {} : { username: address.username }),
  ...(address.password === undefined ? {} : { password: address.password }),
  ...(address.tls === undefined ? {} : { tls: address.tls }),
  connectionName: `parley-${name}`,
  // Otherwise a subscription during the handshake ends the process (redis/ioredis#2037).
  disableClientInfo: true,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  // Not socketTimeout, which in 5.11 ends the next connection, too, when this one ends with a command under way.
  commandTimeout: answerMs,
  connectTimeout: connectMs,
  keepAlive: askMs,
  lazyConnect: true,
})

function toServer(address: RedisAddress, name: string): Redis {
  const { hosts, kind, master, db, tls, sentinelLogin } = address
  const where: RedisOptions =
    kind === 'server'
      ? { ...hosts[0] }
      : {
          sentinels: hosts,
          name: master,
          sentinelRetryStrategy: retryMs,
          enableTLSForSentinelMode: tls !== undefined,
          ...(tls === undefined ? {} : { sentinelTLS: tls }),
          ...(sentinelLogin.username === undefined ? {} : { sentinelUsername: sentinelLogin.username }),
          ...(sentinelLogin.password === undefined ? {} : { sentinelPassword: sentinelLogin.password }),
        }
  return new Redis({
    ...common(address, name),
    ...where,
    db,
    enableOfflineQueue: false,
    autoResubscribe: false,
    retryStrategy: retryMs,
    // A master that has become a replica: ask again who the master is.
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
  })
}

function toCluster(address: RedisAddress, name: string): Cluster {
  return new Cluster(address.hosts, {
    redisOptions: common(address, name),
    enableOfflineQueue: false,
    lazyConnect: true,
    clusterRetryStrategy: retryMs,
    // Hosts are compared with certificates by the names that the cluster tells.
    dnsLookup: (host, callback) => callback(null, host),
  })
}

/** Logs each outage once; `last` is what was wrong last. Of an error only its message is used: the rest may hold the password. */
function watch(redis: RedisConnection, logger: Logger, name: string): { last?: string | undefined } {
  const faults: { last?: string | undefined } = {}
  let lostAt: number | undefined
  let wasReady = false
  const lost = (): void => {
    if (!wasReady || lostAt !== undefined) return
    lostAt = performance.now()
    logger.warn({ redis: name, fault: faults.last }, 'the connection to Redis is lost')
  }
  redis.on('error', ({ message, lastNodeError }: Error & { lastNodeError?: Error }) => {
    faults.last = lastNodeError?.message ?? message
  })
  // Not 'close', which comes also when the server itself ends the connection.
  redis.on('reconnecting', lost)
  redis.on('end', () => {
    wasReady = false
  })
  redis.on('ready', () => {
    if (lostAt !== undefined)
      logger.info({ redis: name, awayMs: Math.round(performance.now() - lostAt) }, 'the connection to Redis is back')
    wasReady = true
    lostAt = undefined
    faults.last = undefined
  })
  return faults
}

/** A subscriber sends nothing, so it would never learn that its link is dead; the answer that is missing breaks it. */
function keepAsking(redis: RedisConnection): void {
  const ask = async (link: Redis): Promise<void> => {
    let hasEnded = false
    const end = (): void => {
      hasEnded = true
    }
    link.once('close', end)
    try {
      await link.ping()
    } catch (error) {
      // Whatever Redis says to it, it lives.
      if (!hasEnded && (error as Error).name !== 'ReplyError') link.disconnect(true)
    } finally {
      link.off('close', end)
    }
  }
  const timer = setInterval(() => {
    const links = redis instanceof Cluster ? redis.nodes('all') : [redis]
    for (const link of links) if (link.status === 'ready') void ask(link)
  }, askMs).unref()
  redis.once('end', () => clearInterval(timer))
}
