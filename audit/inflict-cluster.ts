/** Faults of what a cluster stands on: a node that stops for long, Redis, the store, and the way from one node to them. */
import { setTimeout as delay } from 'node:timers/promises'
import type { AuditNode, Backing } from './deployment.js'
import type { FaultKind } from './faults.js'
import type { Random } from './random.js'

const slowMs = 2_000

export interface ClusterWorld extends Backing {
  nodes: readonly AuditNode[]
  pauseMs: number
}

type Act = (world: ClusterWorld, node: AuditNode, random: Random) => Promise<unknown>

const cutOff =
  (service: 'redis' | 'store'): Act =>
  async ({ gateOf }, node, random) => {
    const gate = gateOf(node, service)
    gate.cutOff()
    await delay(2_000 + random(10_000))
    gate.heal()
  }

const restart =
  (service: 'redis' | 'store'): Act =>
  async (world, _, random) => {
    await world[service].kill()
    await delay(random(6_000))
    await world[service].start()
  }

/** `node` was drawn for it; each ends what it began. */
export const clusterActs: Partial<Record<FaultKind, Act>> = {
  async pause({ pauseMs }, node) {
    node.freeze()
    await delay(pauseMs)
    node.thaw()
  },
  async rolling({ nodes }) {
    for (const node of nodes) {
      await node.stop()
      await node.start()
    }
  },
  'redis-kill': restart('redis'),
  'store-kill': restart('store'),
  'redis-flush': ({ redis }) => redis.command('FLUSHALL'),
  'redis-cut': ({ redis }) => redis.command('CLIENT KILL TYPE pubsub'),
  async 'store-slow'({ nodes, gateOf }, _, random) {
    for (const node of nodes) gateOf(node, 'store').slowDown(slowMs)
    await delay(5_000 + random(5_000))
    for (const node of nodes) gateOf(node, 'store').heal()
  },
  'no-redis': cutOff('redis'),
  'no-store': cutOff('store'),
}
