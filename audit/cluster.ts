/**
 * The deployment of several nodes on one store and one Redis, all of them the audit's own. Each node reaches the two through gates
 * of its own, so that one can be cut off while the others are not.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type AuditNode, type Deployment, type DeploymentEvents, watchedMax } from './deployment.js'
import type { EmbeddedOptions } from './embedded.js'
import { createGate, type Gate } from './gate.js'
import { nodeSettings, ownCli } from './node-settings.js'
import { ServerProcess } from './server-process.js'
import { createRedis, createStore } from './service.js'
import { createTurnstile } from './turnstile.js'

export interface ClusterOptions extends Omit<EmbeddedOptions, 'events'> {
  nodes: number
}

/** Redis and the store are up when it resolves; the nodes are not. */
export async function createCluster(options: ClusterOptions): Promise<(events: DeploymentEvents) => Deployment> {
  const { dir, cli = ownCli, settings = {} } = options
  const [redis, store] = [await createRedis(), await createStore(join(dir, 'store'))]
  const turnstile = store.needsTurns ? await createTurnstile(store.port) : undefined
  const gates: Gate[] = []
  const close = async (): Promise<void> => {
    await Promise.all([...gates.map((gate) => gate.close()), turnstile?.close(), redis.kill(), store.kill()])
    await rm(dir, { recursive: true, force: true })
  }
  try {
    await Promise.all([redis.start(), store.start()])
    const storePort = turnstile?.port ?? store.port
    for (let node = 0; node < options.nodes; node++) gates.push(await createGate(redis.port), await createGate(storePort))
  } catch (error) {
    await close()
    throw error
  }
  const secret = randomBytes(32).toString('hex')
  return (events) => {
    const nodes = Array.from({ length: options.nodes }, (_, index) => {
      const [name, nodeDir] = [`node-${index + 1}`, join(dir, `node-${index + 1}`)]
      mkdirSync(nodeDir, { recursive: true })
      const clockFile = join(nodeDir, 'clock')
      const writeClock = (shiftMs: number): void => writeFileSync(clockFile, String(shiftMs))
      writeClock(0)
      const env = {
        ...nodeSettings(secret, join(nodeDir, 'data')),
        PARLEY_NODE_ID: name,
        PARLEY_REDIS_URL: `redis://127.0.0.1:${gates[2 * index]?.port}`,
        PARLEY_MONGODB_URL: `mongodb://127.0.0.1:${gates[2 * index + 1]?.port}/parley_audit?directConnection=true`,
        ...settings,
      }
      return new ServerProcess({ name, command: [process.execPath, cli, 'start'], env, clockFile, writeClock, events })
    })
    const gateOf = (node: AuditNode, service: 'redis' | 'store'): Gate =>
      gates[2 * nodes.indexOf(node as ServerProcess) + (service === 'redis' ? 0 : 1)] as Gate
    return {
      nodes,
      secret,
      backing: { redis, store, gateOf },
      cannot: (kind) => {
        if (kind === 'disk') return 'it is for one node on the embedded store'
        const bucket = { ...process.env, ...settings }.PARLEY_MEDIA_S3_ENDPOINT ?? ''
        return kind === 'media' && bucket === '' ? 'the nodes share no place for media: PARLEY_MEDIA_S3_ENDPOINT is not set' : undefined
      },
      fillDisk: () => undefined,
      freeDisk: () => undefined,
      filtersOf: ({ friends }) => ['g/+/typing', ...friends.slice(0, watchedMax).map((friend) => `u/${friend}/presence`)],
      async close() {
        for (const node of nodes) await node.kill()
        await close()
      },
    }
  }
}
