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

export interface RealCluster {
  readonly nodes: readonly [ServerProcess, ServerProcess, ServerProcess]
  readonly redis: TestRedis
  /** Absent when it is that of PARLEY_TEST_MONGODB_URL, which is not ours to kill. */
  readonly storeProcess: { kill(): Promise<void>; start(): Promise<void> } | undefined
  /** What the nodes have stored, read past them. */
  readonly store: Store
  /** Where clients connect; which node they get is the front's choice. */
  readonly front: { readonly mqttPort: number; readonly httpPort: number }
  /** The network between a node and what it stands on. */
  gate(node: ServerProcess, service: 'redis' | 'store'): Gate
}

/** Undefined after saying why there is none. `settings` are for all nodes. */
export async function startCluster(t: Test, settings: Record<string, string> = {}): Promise<RealCluster | undefined> {
  const found = await findStore(t)
  const redis = await startRedis(t)
  if (found === undefined || redis === undefined) return undefined
  const prefix = newPrefix()
  const gates = new Map<ServerProcess, Record<'redis' | 'store', Gate>>()
  for (const name of ['a', 'b', 'c']) {
    const own = { redis: await createGate(redis.port), store: await createGate(found.port, found.host) }
    for (const gate of Object.values(own)) t.teardown(() => gate.close())
    const env = {
      PARLEY_NODE_ID: name,
      PARLEY_REDIS_URL: `redis://127.0.0.1:${own.redis.port}`,
      PARLEY_REDIS_PREFIX: prefix,
      PARLEY_MONGODB_URL: found.urlAt('127.0.0.1', own.store.port),
      PARLEY_CONVERSATION_BACKLOG_MAX: '1000000',
      PARLEY_SESSION_BACKLOG_MAX: '1000000',
      ...settings,
    }
    gates.set(new ServerProcess(t, await newDir(t), env), own)
  }
  const nodes = [...gates.keys()] as unknown as RealCluster['nodes']
  const store = await createMongodbStore(found.urlAt(found.host, found.port))
  t.teardown(() => store.close())
  await Promise.all(nodes.map((node) => node.start()))
  let next = 0
  const front = await createProxy(() => {
    const up = nodes.filter(({ isUp, mqttPort }) => isUp && mqttPort !== 0)
    return up[next++ % up.length]
  })
  t.teardown(() => front.close())
  return {
    nodes,
    redis,
    storeProcess: found.process,
    store,
    front,
    gate: (node, service) => (gates.get(node) as Record<string, Gate>)[service] as Gate,
  }
}

interface FoundStore {
  host: string
  port: number
  urlAt(host: string, port: number): string
  process: RealCluster['storeProcess']
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
