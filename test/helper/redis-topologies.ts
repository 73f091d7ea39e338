/** A Redis Cluster and a Redis that Sentinels look after, of the test's own, on free ports; a master of either can be killed, and its replica takes over. */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { eventually } from './eventually.js'
import { newDir } from './new-dir.js'
import { findProgram, freePort, spawnFor } from './own-service.js'
import { startRedis, type TestRedis } from './redis.js'

export interface Topology {
  /** For PARLEY_REDIS_URL. */
  readonly url: string
  readonly servers: readonly TestRedis[]
  /** The master that has this key. */
  masterOf(key: string): Promise<TestRedis>
  /** Resolves when every key has a master that can be written to, and that has so many replicas. */
  isWhole(replicas: number): Promise<void>
}

const waitMs = 60_000
/** A server that is silent for so long is down. */
const downMs = 1_000

/** Three masters with a replica each. Undefined after saying why there is none. */
export async function startRedisCluster(t: Test): Promise<Topology | undefined> {
  const servers: TestRedis[] = []
  for (let n = 0; n < 6; n++) {
    const bus = String(await freePort())
    const server = await startRedis(t, '--cluster-enabled', 'yes', '--cluster-node-timeout', String(downMs), '--cluster-port', bus)
    if (server === undefined) return undefined
    servers.push(server)
  }
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`)
  const program = findProgram('redis-cli') ?? 'redis-cli'
  await promisify(execFile)(program, ['--cluster', 'create', ...hosts, '--cluster-replicas', '1', '--cluster-yes'])
  const slotsOf = async (): Promise<{ from: number; to: number; ports: number[] }[]> => {
    const text = await anyOf(servers, (server) => server.command('--json', 'CLUSTER', 'SLOTS'))
    const slots = JSON.parse(text) as [number, number, ...[string, number][]][]
    return slots.map(([from, to, ...nodes]) => ({ from, to, ports: nodes.map(([, port]) => port) }))
  }
  const topology: Topology = {
    url: `redis-cluster://${hosts.slice(0, 3).join(',')}`,
    servers,
    async masterOf(key) {
      const slot = Number(await anyOf(servers, (server) => server.command('CLUSTER', 'KEYSLOT', key)))
      const range = (await slotsOf()).find(({ from, to }) => from <= slot && slot <= to)
      return servers.find(({ port }) => port === range?.ports[0]) as TestRedis
    },
    async isWhole(replicas) {
      const isSo = async (): Promise<boolean> => {
        const alive = await livingOf(servers)
        const infos = await Promise.all(alive.map((server) => server.command('CLUSTER', 'INFO')))
        const slots = await slotsOf()
        const ports = new Set(alive.map(({ port }) => port))
        const covered = slots.reduce((sum, { from, to, ports: [master = 0] }) => sum + (ports.has(master) ? to - from + 1 : 0), 0)
        return (
          infos.every((info) => info.includes('cluster_state:ok')) &&
          covered === 16_384 &&
          slots.every((each) => each.ports.length > replicas)
        )
      }
      await eventually(isSo, { timeoutMs: waitMs, everyMs: 100, what: 'the Redis Cluster is whole' })
    },
  }
  await topology.isWhole(1)
  return topology
}

/** A master with a replica, and three Sentinels. Undefined after saying why there is none. */
export async function startSentinel(t: Test): Promise<Topology | undefined> {
  const [first, second] = [await startRedis(t), await startRedis(t)]
  if (first === undefined || second === undefined) return undefined
  const servers = [first, second]
  await second.command('REPLICAOF', '127.0.0.1', String(first.port))
  const ports: number[] = []
  for (let n = 0; n < 3; n++) {
    const [dir, port] = [await newDir(t), await freePort()]
    const config = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor mymaster 127.0.0.1 ${first.port} 2`,
      `sentinel down-after-milliseconds mymaster ${downMs}`,
      'sentinel failover-timeout mymaster 5000',
    ]
    await writeFile(join(dir, 'sentinel.conf'), config.join('\n'))
    spawnFor(t, findProgram('redis-server') ?? '', [join(dir, 'sentinel.conf'), '--sentinel'])
    ports.push(port)
  }
  const ask = async (...words: string[]): Promise<string> => {
    const program = findProgram('redis-cli') ?? 'redis-cli'
    return (await promisify(execFile)(program, ['-p', String(ports[0]), ...words])).stdout.trim()
  }
  const master = async (): Promise<TestRedis> => {
    const [, port] = (await ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')).split('\n')
    return servers.find((server) => server.port === Number(port)) as TestRedis
  }
  const topology: Topology = {
    url: `redis-sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/mymaster`,
    servers,
    masterOf: master,
    async isWhole(replicas) {
      const isSo = async (): Promise<boolean> => {
        const info = await (await master()).command('INFO', 'replication')
        const others = await ask('SENTINEL', 'SENTINELS', 'mymaster')
        return (
          info.includes('role:master') &&
          (info.match(/state=online/g) ?? []).length >= replicas &&
          (others.match(/^runid$/gm) ?? []).length === 2
        )
      }
      await eventually(isSo, { timeoutMs: waitMs, everyMs: 100, what: 'Sentinel has a master with its replica' })
    },
  }
  await topology.isWhole(1)
  return topology
}

async function livingOf(servers: readonly TestRedis[]): Promise<TestRedis[]> {
  const answers = await Promise.allSettled(servers.map((server) => server.command('PING')))
  return servers.filter((_, at) => answers[at]?.status === 'fulfilled')
}

const anyOf = async (servers: readonly TestRedis[], ask: (server: TestRedis) => Promise<string>): Promise<string> =>
  ask((await livingOf(servers))[0] as TestRedis)
