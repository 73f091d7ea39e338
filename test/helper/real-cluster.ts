/**
 * A cluster as it runs in production: nodes that are processes of their own, a real Redis and a real MongoDB-compatible store, each node
 * with a network of its own to both, and a front that spreads connections over the nodes that are up, as a balancer does. Everything of it
 * can be killed, frozen, cut off and started again; all of it goes with the test.
 */
import { join } from 'node:path'
import type { Test } from 'tap'
import { createGate, type Gate } from '../../audit/gate.js'
import { createProxy } from '../../audit/proxy.js'
import { createStore } from '../../audit/service.js'
import { createMongodbStore } from '../../broker/store/mongodb/mongodb-store.js'
import type { Store } from '../../broker/store/store.js'
import { newDatabase } from './mongodb.js'
import { newDir } from './new-dir.js'
import { findProgram, skipWithout } from './own-service.js'
import { newPrefix, startRedis, type TestRedis } from './redis.js'
import { ServerProcess } from './server-process.js'

export interface RealNodes {
  readonly nodes: readonly [ServerProcess, ServerProcess, ServerProcess]
  /** Absent when it is that of PARLEY_TEST_MONGODB_URL, which is not ours to kill. */
  readonly storeProcess: { kill(): Promise<void>; start(): Promise<void> } | undefined
  /** What the nodes have stored, read past them. */
  readonly store: Store
  /** Where clients connect; which node they get is the front's choice. */
  readonly front: { readonly mqttPort: number; readonly httpPort: number }
}

export interface RealCluster extends RealNodes {
  readonly redis: TestRedis
  /** The network between a node and what it stands on. */
  gate(node: ServerProcess, service: 'redis' | 'store'): Gate
}

/** Undefined after saying why there is none. `settings` are for all nodes. */
export async function startCluster(t: Test, settings: Record<string, string> = {}): Promise<RealCluster | undefined> {
  const redis = await startRedis(t)
  if (redis === undefined) return undefined
  const gates: Gate[] = []
  const redisUrl = async (): Promise<string> => {
    const gate = await createGate(redis.port)
    t.teardown(() => gate.close())
    gates.push(gate)
    return `redis://127.0.0.1:${gate.port}`
  }
  const started = await startNodes(t, redisUrl, settings)
  if (started === undefined) return undefined
  const { storeGates, ...cluster } = started
  return {
    ...cluster,
    redis,
    gate: (node, service) => (service === 'redis' ? gates : storeGates)[cluster.nodes.indexOf(node)] as Gate,
  }
}

/** On whatever Redis; `redisUrl` is called for each node. Undefined after saying why there are none. */
export async function startNodes(
  t: Test,
  redisUrl: () => Promise<string>,
  settings: Record<string, string> = {},
): Promise<(RealNodes & { storeGates: readonly Gate[]; prefix: string }) | undefined> {
  const found = await findStore(t)
  if (found === undefined) return undefined
  const prefix = newPrefix()
  const processes: ServerProcess[] = []
  const storeGates: Gate[] = []
  for (const name of ['a', 'b', 'c']) {
    const gate = await createGate(found.port, found.host)
    t.teardown(() => gate.close())
    storeGates.push(gate)
    const env = {
      PARLEY_NODE_ID: name,
      PARLEY_REDIS_URL: await redisUrl(),
      PARLEY_REDIS_PREFIX: prefix,
      PARLEY_MONGODB_URL: found.urlAt('127.0.0.1', gate.port),
      PARLEY_CONVERSATION_BACKLOG_MAX: '1000000',
      PARLEY_SESSION_BACKLOG_MAX: '1000000',
      ...settings,
    }
    processes.push(new ServerProcess(t, await newDir(t), env))
  }
  const nodes = processes as unknown as RealNodes['nodes']
  const store = await createMongodbStore(found.urlAt(found.host, found.port))
  t.teardown(() => store.close())
  await Promise.all(nodes.map((node) => node.start()))
  let next = 0
  const front = await createProxy(() => {
    const up = nodes.filter(({ isUp, mqttPort }) => isUp && mqttPort !== 0)
    return up[next++ % up.length]
  })
  t.teardown(() => front.close())
  return { nodes, storeProcess: found.process, store, front, storeGates, prefix }
}

interface FoundStore {
  host: string
  port: number
  urlAt(host: string, port: number): string
  process: RealNodes['storeProcess']
}

async function findStore(t: Test): Promise<FoundStore | undefined> {
  const given = process.env.PARLEY_TEST_MONGODB_URL
  const direct = '?directConnection=true'
  if (given !== undefined) {
    const url = new URL(newDatabase(given.replace(/\/$/, '')))
    const urlAt = (host: string, port: number): string => `${Object.assign(new URL(url), { host: `${host}:${port}` }).href}${direct}`
    return { host: url.hostname, port: Number(url.port === '' ? 27_017 : url.port), urlAt, process: undefined }
  }
  if (findProgram('mongod', 'ferretdb') === undefined)
    return skipWithout(t, 'mongodb', 'needs PARLEY_TEST_MONGODB_URL, or mongod or ferretdb in PATH')
  const service = await createStore(join(await newDir(t), 'store'))
  t.teardown(() => service.kill())
  await service.start()
  const database = newDatabase('')
  const urlAt = (host: string, port: number): string => `mongodb://${host}:${port}${database}${direct}`
  return { host: '127.0.0.1', port: service.port, urlAt, process: service }
}
