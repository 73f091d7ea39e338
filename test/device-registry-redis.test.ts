/** The registry in a real Redis: the contract on one node, then what several nodes know of each other, also when Redis or a node is lost. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Bus } from '../broker/bus.js'
import { LocalBus } from '../broker/bus.js'
import type { DeviceClaim } from '../broker/device-registry.js'
import { createLogger } from '../broker/logger.js'
import { RedisDeviceRegistry } from '../broker/redis/device-registry.js'
import { claimOf, devicesOf, testDeviceRegistry } from './contract/device-registry.js'
import { eventually } from './helper/eventually.js'
import { newPrefix, startRedis, type TestRedis } from './helper/redis.js'

const logger = createLogger('silent')
const redis = (await startRedis(t)) as TestRedis
if (redis === undefined) process.exit(0)

const graceMs = 100
/** A node that is killed is known to be dead within this, with room for a slow machine. */
const deadMs = 15_000

interface Node {
  registry: RedisDeviceRegistry
  overtaken: DeviceClaim[]
}

/** Nothing is heard on its bus: what is known comes from Redis alone. */
async function openNode(t: Test, prefix: string, graces = graceMs): Promise<Node> {
  const overtaken: DeviceClaim[] = []
  const bus: Bus = new LocalBus(`node-${randomBytes(4).toString('hex')}`)
  const registry = await RedisDeviceRegistry.open({
    url: redis.url,
    prefix,
    bus,
    logger,
    graceMs: graces,
    overtaken: (user, device, epoch) => void overtaken.push({ user, device, epoch }),
  })
  t.teardown(() => registry.close())
  return { registry, overtaken }
}

const nodes = (t: Test, prefix: string, ...names: string[]): Promise<Node[]> => Promise.all(names.map(() => openNode(t, prefix)))

/** Redis has been there for so long that nobody can have come back unseen. */
async function settled(...asked: Node[]): Promise<void> {
  for (const { registry } of asked)
    await eventually(async () => (await devicesOf(registry, 'nobody')) !== undefined, {
      timeoutMs: 20_000,
      what: 'it is known who is gone',
    })
}

const sees = (node: Node, user: string, devices: string[]): Promise<unknown> =>
  eventually(async () => JSON.stringify(await devicesOf(node.registry, user)) === JSON.stringify(devices), {
    timeoutMs: 20_000,
    what: `${user} has ${devices.join(', ') || 'no devices'}`,
  })

const isOvertaken = ({ overtaken }: Node, { user, epoch }: DeviceClaim): Promise<unknown> =>
  eventually(() => overtaken.some((each) => each.user === user && each.epoch === epoch), { what: `the session of ${user} is overtaken` })

/** Until `stop`, asks all the time; what was said of `user`. */
function asks(node: Node, user: string): { stop(): Promise<Set<string>> } {
  const said = new Set<string>()
  let isStopped = false
  const asking = (async () => {
    while (!isStopped) {
      said.add(JSON.stringify(await devicesOf(node.registry, user)) ?? 'unknown')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })()
  return {
    stop: async () => {
      isStopped = true
      await asking
      return said
    },
  }
}

t.test('one node', async (t) => {
  testDeviceRegistry(t, async (t, graces) => (await openNode(t, newPrefix(), graces)).registry)
})

t.test('two nodes', { timeout: 120_000 }, async (t) => {
  const prefix = newPrefix()
  const [a, b] = (await nodes(t, prefix, 'a', 'b')) as [Node, Node]

  // So many that what is repeated in turn comes around too late to be what is seen here.
  for (let i = 0; i < 1_200; i++) a.registry.claim(claimOf(`user-${i}`, 'phone'))

  await t.test('in a new Redis nobody is said to be gone before all nodes may have come', async (t) => {
    t.equal(await devicesOf(b.registry, 'alice'), undefined)
    a.registry.claim(claimOf('alice', 'phone'))
    await sees(b, 'alice', ['phone'])
    await settled(a, b)
    t.same(await devicesOf(b.registry, 'nobody'), [])
  })

  await t.test('a user has the devices of all nodes, each once', async () => {
    b.registry.claim(claimOf('alice', 'web'))
    for (const node of [a, b]) await sees(node, 'alice', ['phone', 'web'])
    b.registry.claim(claimOf('alice', 'phone', 2))
    for (const node of [a, b]) await sees(node, 'alice', ['phone', 'web'])
    a.registry.release(claimOf('alice', 'phone', 1))
    b.registry.release(claimOf('alice', 'web'))
    for (const node of [a, b]) await sees(node, 'alice', ['phone'])
  })

  await t.test('of who has gone the others know when', async (t) => {
    const before = Date.now()
    b.registry.release(claimOf('alice', 'phone', 2))
    await sees(a, 'alice', [])
    const [standing] = await a.registry.lookUp(['alice'])
    t.ok((standing?.goneTs ?? 0) >= before && (standing?.goneTs ?? 0) <= Date.now())
  })

  await t.test('a takeover whose word was lost is found by the claim of the later session', async (t) => {
    a.registry.claim(claimOf('bob', 'phone', 5))
    await sees(b, 'bob', ['phone'])
    b.registry.claim(claimOf('bob', 'phone', 6))
    await isOvertaken(a, claimOf('bob', 'phone', 6))
    b.registry.claim(claimOf('carol', 'phone', 2))
    await sees(a, 'carol', ['phone'])
    a.registry.claim(claimOf('carol', 'phone', 1))
    await isOvertaken(a, claimOf('carol', 'phone', 2))
    t.same(b.overtaken, [])
  })

  await t.test('when Redis has lost everything nobody is said to be gone, and all are there again', async (t) => {
    await sees(b, 'user-1199', ['phone'])
    const asking = asks(b, 'user-1199')
    await redis.command('flushall')
    await sees(b, 'user-7', ['phone'])
    await settled(a, b)
    await sees(b, 'user-1199', ['phone'])
    t.notOk((await asking.stop()).has('[]'))
  })

  await t.test('the same when Redis is killed and starts again, empty', async (t) => {
    const asking = asks(b, 'user-3')
    await redis.kill()
    t.same(await devicesOf(a.registry, 'user-3'), ['phone'], 'its own devices are known without Redis')
    await eventually(async () => (await devicesOf(b.registry, 'user-3')) === undefined, { what: 'others are unknown' })
    await redis.start()
    await settled(a, b)
    await sees(b, 'user-3', ['phone'])
    t.notOk((await asking.stop()).has('[]'))
  })

  await t.test('the same when Redis stands still for longer than the lease', { timeout: 60_000 }, async (t) => {
    const asking = asks(b, 'user-3')
    redis.freeze()
    await eventually(async () => (await devicesOf(b.registry, 'user-3')) === undefined, { what: 'others are unknown' })
    const until = performance.now() + 8_000
    await eventually(() => performance.now() > until, { timeoutMs: 20_000, what: 'the lease is over' })
    redis.thaw()
    await settled(a, b)
    await sees(b, 'user-3', ['phone'])
    t.notOk((await asking.stop()).has('[]'))
  })

  await t.test('the devices of a node that died are gone, and its last beat is when they were seen', async (t) => {
    const told = new Promise<void>((resolve) => {
      b.registry.watch((users) => {
        if (users === 'all') resolve()
      })
    })
    const before = Date.now()
    a.registry.close()
    await sees(b, 'user-3', [])
    t.ok(Date.now() - before < deadMs)
    const [standing] = await b.registry.lookUp(['user-3'])
    t.ok(Math.abs((standing?.goneTs ?? 0) - before) < 5_000)
    await told
    t.equal(b.registry.nodes, 1)
  })
})
