/** Connections to Redis by URL: ACL users, TLS, Sentinel, Cluster, and what is said when Redis cannot be used or goes away. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { Logger } from '../broker/logger.js'
import { connectRedis, type RedisConnection } from '../broker/redis/connect.js'
import { keepSubscribed } from '../broker/redis/keep-subscribed.js'
import { faultsOfRedisUrl, parseRedisUrl } from '../broker/redis/redis-url.js'
import { makeCertificate, writeCertificate } from '../loadtest/peers/certificate.js'
import { eventually } from './helper/eventually.js'
import { newDir } from './helper/new-dir.js'
import { findProgram, freePort, spawnFor } from './helper/own-service.js'
import { startRedis } from './helper/redis.js'

interface Lines {
  logger: Logger
  lines: string[]
}

function keepLines(): Lines {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  return { logger: pino({ level: 'info' }, stream), lines }
}

async function open(t: Test, url: string, { logger } = keepLines()): Promise<RedisConnection> {
  const redis = await connectRedis({ url, logger, name: 'test' })
  t.teardown(() => redis.disconnect())
  return redis
}

/** Subscribed to `news`, with what came. */
async function listenTo(t: Test, url: string): Promise<{ subscriber: RedisConnection; heard: string[] }> {
  const subscriber = await open(t, url)
  const heard: string[] = []
  subscriber.on('message', (_channel: string, message: string) => heard.push(message))
  await keepSubscribed(subscriber, 'news')
  return { subscriber, heard }
}

t.test('a URL is understood, or the phrase says what is wrong and nothing of the password', async (t) => {
  t.match(parseRedisUrl('redis://localhost'), { kind: 'server', hosts: [{ host: 'localhost', port: 6379 }], db: 0 })
  t.match(parseRedisUrl('rediss://app:p%40ss@[::1]:7000/2'), {
    hosts: [{ host: '::1', port: 7000 }],
    username: 'app',
    password: 'p@ss',
    db: 2,
    tls: {},
  })
  t.match(parseRedisUrl('redis://:secret@db'), { password: 'secret', username: undefined })
  t.match(parseRedisUrl('redis-sentinel://app:x@a:1,b/mymaster?db=3&tls=true&sentinelPassword=y'), {
    kind: 'sentinel',
    hosts: [
      { host: 'a', port: 1 },
      { host: 'b', port: 26_379 },
    ],
    master: 'mymaster',
    db: 3,
    tls: {},
    sentinelLogin: { password: 'y' },
  })
  t.match(parseRedisUrl('redis-cluster://a,b:7001'), { kind: 'cluster', hosts: [{ port: 6379 }, { port: 7001 }], tls: undefined })
  const wrong: [string, RegExp][] = [
    ['http://localhost', /must begin with redis:\/\//],
    ['redis://', /host and port are not understood/],
    ['redis://a:99999', /host and port/],
    ['redis://app:hush@hush@a', /host and port|begin with/],
    ['redis://app@a', /user without a password/],
    ['redis://a,b', /several hosts/],
    ['redis://a/one', /must be a number/],
    ['redis://:50%@a', /the password has a %/],
    ['redis://a?ca=x', /use with TLS only/],
    ['redis://a?tls=true', /no option "tls"/],
    ['rediss://a?ca=nowhere.pem', /cannot be read \(ENOENT\)/],
    ['redis-sentinel://a', /must name the master/],
    ['redis-cluster://a/1', /no databases/],
    ['redis-cluster://a?tls=yes', /true or false/],
  ]
  for (const [url, phrase] of wrong) {
    const [fault = ''] = faultsOfRedisUrl(url)
    t.match(fault, phrase, url)
    t.notMatch(fault, /hush/)
  }
})

t.test('an ACL user is let in with his password, and a wrong one gets a line that tells so', async (t) => {
  const server = await startRedis(t)
  if (server === undefined) return
  await server.command('ACL', 'SETUSER', 'app', 'on', '>hush', '~parley:*', '&*', '+@all')
  await server.command('ACL', 'SETUSER', 'default', 'off')
  const app = await open(t, `redis://app:hush@127.0.0.1:${server.port}`)
  await app.set('parley:x', '1')
  t.equal(await app.get('parley:x'), '1')
  await t.rejects(app.set('other', '1'), /NOPERM/)
  const { logger, lines } = keepLines()
  const wrong = connectRedis({ url: `redis://app:hushhush@127.0.0.1:${server.port}`, logger, name: 'test' })
  await t.rejects(wrong, { name: 'OperatorError', message: /PARLEY_REDIS_URL cannot be used: 127\.0\.0\.1:\d+ says: WRONGPASS/ })
  await t.rejects(connectRedis({ url: server.url, logger, name: 'test' }), /NOAUTH/)
  await t.rejects(connectRedis({ url: `redis://127.0.0.1:${await freePort()}`, logger, name: 'test' }), /ECONNREFUSED/)
  t.notMatch(lines.join(), /hush/)
})

t.test('TLS, with an authority of its own', async (t) => {
  const [dir, port] = [await newDir(t), await freePort()]
  const { certFile: cert, keyFile: key } = await writeCertificate(dir, makeCertificate())
  const tls = ['--port', '0', '--tls-port', String(port), '--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', cert]
  if ((await startRedis(t, ...tls, '--tls-auth-clients', 'no')) === undefined) return
  const redis = await open(t, `rediss://localhost:${port}?ca=${cert}`)
  t.equal(await redis.ping(), 'PONG')
  const { logger } = keepLines()
  await t.rejects(connectRedis({ url: `rediss://localhost:${port}`, logger, name: 'test' }), /self.signed/i)
})

t.test('Sentinel names the master, also after another has become it', async (t) => {
  const [first, second] = [await startRedis(t), await startRedis(t)]
  if (first === undefined || second === undefined) return
  await second.command('REPLICAOF', '127.0.0.1', String(first.port))
  const [dir, port] = [await newDir(t), await freePort()]
  const config = join(dir, 'sentinel.conf')
  await writeFile(
    config,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor mymaster 127.0.0.1 ${first.port} 1`,
      'sentinel down-after-milliseconds mymaster 500',
      'sentinel failover-timeout mymaster 2000',
    ].join('\n'),
  )
  spawnFor(t, findProgram('redis-server') ?? '', [config, '--sentinel'])
  const url = `redis-sentinel://127.0.0.1:${port}/mymaster`
  const redis = await eventually(() => open(t, url), { timeoutMs: 10_000, everyMs: 100, what: 'Sentinel knows the master' })
  await redis.set('x', '1')
  await eventually(async () => (await second.command('GET', 'x')) === '1', { timeoutMs: 10_000, everyMs: 50, what: 'the replica has it' })
  await first.kill()
  await eventually(() => redis.set('x', '2'), { timeoutMs: 30_000, everyMs: 100, what: 'the replica is written to' })
  t.equal(await second.command('GET', 'x'), '2')
})

t.test('a Redis Cluster: keys on all nodes, and what one publishes reaches a subscriber', async (t) => {
  const nodes = [await startRedis(t, '--cluster-enabled', 'yes'), await startRedis(t, '--cluster-enabled', 'yes')]
  const [first, second] = nodes
  if (first === undefined || second === undefined) return
  await first.command('CLUSTER', 'ADDSLOTSRANGE', '0', '8000')
  await second.command('CLUSTER', 'ADDSLOTSRANGE', '8001', '16383')
  await first.command('CLUSTER', 'MEET', '127.0.0.1', String(second.port))
  const isJoined = async (): Promise<boolean> =>
    (await Promise.all([first, second].map((node) => node.command('CLUSTER', 'INFO')))).every((info) => info.includes('cluster_state:ok'))
  await eventually(isJoined, { timeoutMs: 20_000, everyMs: 100, what: 'the nodes are one cluster' })
  const url = `redis-cluster://127.0.0.1:${first.port},127.0.0.1:${second.port}`
  const redis = await open(t, url)
  for (let n = 0; n < 20; n++) await redis.set(`key-${n}`, String(n))
  for (let n = 0; n < 20; n++) t.equal(await redis.get(`key-${n}`), String(n))
  const { heard } = await listenTo(t, url)
  await eventually(async () => {
    await redis.publish('news', 'hello')
    return heard.length > 0
  })
})

t.test('while Redis is away commands reject, and all goes on when it is back', async (t) => {
  const server = await startRedis(t)
  if (server === undefined) return
  const kept = keepLines()
  const redis = await open(t, server.url, kept)
  const { heard } = await listenTo(t, server.url)
  await server.kill()
  await t.rejects(redis.set('x', '1'))
  await eventually(() => redis.status === 'reconnecting')
  await server.start()
  await eventually(() => redis.set('x', '2'), { what: 'it is connected again' })
  await eventually(async () => {
    await redis.publish('news', 'back')
    return heard.includes('back')
  })
  const words = kept.lines.map((line) => (JSON.parse(line) as { msg: string }).msg)
  t.strictSame(words, ['the connection to Redis is lost', 'the connection to Redis is back'])
})

t.test('a connection that is lost with a command under way comes back once, and stays', async (t) => {
  const server = await startRedis(t)
  if (server === undefined) return
  const redis = await open(t, server.url)
  let closed = 0
  redis.on('close', () => closed++)
  server.freeze()
  const rejected = t.rejects(redis.get('x'))
  await server.kill()
  await rejected
  await server.start()
  await eventually(() => redis.status === 'ready', { timeoutMs: 15_000 })
  const [before, backMs] = [closed, performance.now()]
  // Longer than anything takes that was under way.
  await eventually(() => performance.now() - backMs > 3_500, { timeoutMs: 15_000, everyMs: 100 })
  t.equal(closed, before)
})

t.test('a Redis that hangs fails commands within their time, and a subscriber notices too', async (t) => {
  const server = await startRedis(t)
  if (server === undefined) return
  const redis = await open(t, server.url)
  const { subscriber, heard } = await listenTo(t, server.url)
  let closed = 0
  subscriber.on('close', () => closed++)
  server.freeze()
  await t.rejects(redis.get('x'))
  await eventually(() => closed > 0, { timeoutMs: 15_000, everyMs: 50, what: 'the subscriber gives its link up' })
  server.thaw()
  await eventually(
    async () => {
      await redis.publish('news', 'again')
      return heard.includes('again')
    },
    { timeoutMs: 15_000, everyMs: 50 },
  )
})
