/** Presence over several nodes on MongoDB and Redis: nobody online is shown offline for long, and nobody online who has gone, whatever breaks. */
import t, { type Test } from 'tap'
import type { ServerOptions } from '../../broker/index.js'
import { Actor, type ActorOptions, type Json } from '../helper/actor.js'
import { eventually } from '../helper/eventually.js'
import { openGate } from '../helper/gate.js'
import { newDatabase, startMongodb } from '../helper/mongodb.js'
import { newDir } from '../helper/new-dir.js'
import { newPrefix, startRedis, type TestRedis } from '../helper/redis.js'
import { ServerProcess, tokenOf } from '../helper/server-process.js'
import { type Stage, stage } from '../helper/stage.js'

const [mongodb, redis] = [await startMongodb(t), (await startRedis(t)) as TestRedis | undefined]
const skip = mongodb === undefined || redis === undefined

/** What the documents promise, and room for a machine that others use. */
const deadMs = 15_000
const waitMs = 20_000

interface Shared extends ServerOptions {
  mongodbUrl: string
  redisUrl: string
  redisPrefix: string
}

const newCluster = (): Shared => ({
  mongodbUrl: newDatabase(mongodb as string),
  redisUrl: (redis as TestRedis).url,
  redisPrefix: newPrefix(),
  presenceGraceMs: 300,
})

const node = (t: Test, shared: Shared, nodeId: string): Promise<Stage> => stage(t, { ...shared, nodeId })

/** In a process of its own, to be killed. */
async function nodeProcess(t: Test, { mongodbUrl, redisUrl, redisPrefix }: Shared): Promise<ServerProcess> {
  const cluster = {
    PARLEY_MONGODB_URL: mongodbUrl,
    PARLEY_REDIS_URL: redisUrl,
    PARLEY_REDIS_PREFIX: redisPrefix,
    PARLEY_NODE_ID: 'process',
  }
  return new ServerProcess(t, await newDir(t), { ...cluster, PARLEY_PRESENCE_GRACE_MS: '300' }).start()
}

function actorOf(process: ServerProcess, user: string, options: ActorOptions = {}): Promise<Actor> {
  const { mqttPort, httpPort } = process
  return new Actor(user, options, { mqttPort, httpPort, token: (name) => tokenOf(name), caughtUp: async () => undefined }).connects()
}

const presenceHeard = (actor: Actor, user: string): Json[] =>
  actor.heard.filter(({ topic }) => topic === `u/${user}/presence`).map(({ body }) => body)

/** The last that he heard of the user is this. */
const sees = (actor: Actor, user: string, status: 'online' | 'offline', timeoutMs = waitMs): Promise<Json> =>
  eventually(
    () => {
      const last = presenceHeard(actor, user).at(-1)
      return last?.status === status ? last : undefined
    },
    { timeoutMs, what: `${actor.name} sees ${user} ${status}` },
  )

const watch = async (actor: Actor, user: string): Promise<void> => {
  await actor.client.subscribeAsync(`u/${user}/presence`)
  await sees(actor, user, 'online')
}

/** alice on the first node watches bob on the second, and he her. */
async function watching(a: Stage, b: Stage): Promise<[alice: Actor, bob: Actor]> {
  const [alice, bob] = [await a.actor('alice'), await b.actor('bob')]
  await alice.sends('u/bob', 'hi')
  await bob.receives({ seq: 1 })
  await watch(alice, 'bob')
  await watch(bob, 'alice')
  return [alice, bob]
}

const saidOffline = (actor: Actor, user: string): boolean => presenceHeard(actor, user).some(({ status }) => status === 'offline')

t.test('somebody on another node is seen to come and go, on whatever device and node', { skip }, async (t) => {
  const shared = newCluster()
  const [a, b] = [await node(t, shared, 'a'), await node(t, shared, 'b')]
  const [alice, bob] = await watching(a, b)
  const web = await a.actor('bob', { device: 'web' })
  await eventually(
    async () => {
      const { devices } = await bob.calls<{ devices: Json[] }>('devices.list')
      return devices.length === 2 && devices.every(({ online }) => online === true)
    },
    { what: 'the device on the other node is listed as online' },
  )
  await bob.leaves()
  await web.calls('profile.update', { status: 'busy' })
  await eventually(() => presenceHeard(alice, 'bob').at(-1)?.busy === true, { what: 'he is busy' })
  t.notOk(saidOffline(alice, 'bob'))
  const before = Date.now()
  await web.leaves()
  const gone = await sees(alice, 'bob', 'offline')
  t.ok((gone.last_seen as number) >= before)
  const { status, body } = await b.http('POST', '/v1/rpc/presence', { token: await b.token('alice'), body: { users: ['bob'] } })
  t.match([status, body], [200, { presence: { bob: { status: 'offline', last_seen: Number } } }])
  await bob.returns()
  await sees(alice, 'bob', 'online')
})

t.test('blocks and memberships that change on another node end what is seen', { skip }, async (t) => {
  const shared = newCluster()
  const [a, b] = [await node(t, shared, 'a'), await node(t, shared, 'b')]
  const [alice, bob] = await watching(a, b)
  await bob.calls('blocks.add', { user: 'alice' })
  t.strictSame(await sees(alice, 'bob', 'offline'), { status: 'offline' })
  await bob.calls('blocks.remove', { user: 'alice' })
  await sees(alice, 'bob', 'online')
  const [carol, dave] = [await a.actor('carol'), await b.actor('dave')]
  await bob.calls('group.create', { group: 'team', members: ['carol', 'dave'] })
  for (const actor of [bob, carol, dave]) await actor.receives({ group: 'team' })
  await watch(carol, 'dave')
  await watch(dave, 'carol')
  await bob.calls('group.remove', { group: 'team', users: ['dave'] })
  t.strictSame(await sees(carol, 'dave', 'offline'), { status: 'offline' })
  t.strictSame(await sees(dave, 'carol', 'offline'), { status: 'offline' })
})

t.test(
  'a block of which a node could not be told hides all the same, soon after it hears the others again',
  { skip, timeout: 120_000 },
  async (t) => {
    const shared = newCluster()
    const gate = await openGate(t, (redis as TestRedis).port)
    const [a, b] = [await node(t, { ...shared, redisUrl: `redis://127.0.0.1:${gate.port}` }, 'a'), await node(t, shared, 'b')]
    const [alice, bob] = await watching(a, b)
    gate.cut()
    await bob.calls('blocks.add', { user: 'alice' })
    gate.heal()
    t.strictSame(await sees(alice, 'bob', 'offline'), { status: 'offline' })
    t.ok(bob.isConnected, 'he is online')
    gate.cut()
    await bob.calls('blocks.remove', { user: 'alice' })
    gate.heal()
    await sees(alice, 'bob', 'online')
  },
)

t.test('whatever happens to Redis, nobody who is online is seen offline', { skip, timeout: 180_000 }, async (t) => {
  const [shared, server] = [newCluster(), redis as TestRedis]
  const [a, b] = [await node(t, shared, 'a'), await node(t, shared, 'b')]
  const [alice, bob] = await watching(a, b)
  const faults: Record<string, () => Promise<unknown>> = {
    'everything in it is gone': () => server.command('flushall'),
    'pub/sub is cut': () => server.command('client', 'kill', 'type', 'pubsub'),
    'it is killed and starts again': async () => {
      await server.kill()
      // Who comes now is let in, and seen by his own node.
      const carol = await a.actor('carol')
      await alice.sends('u/carol', 'hi')
      await carol.receives({ seq: 1 })
      await watch(alice, 'carol')
      await server.start()
    },
  }
  for (const [name, fault] of Object.entries(faults)) {
    await fault()
    // Who comes and goes afterwards is seen, by either node: so all is well again.
    const dave = await b.actor('dave', { device: name.length.toString() })
    await alice.sends('u/dave', 'hi')
    await dave.receives({ from: 'alice' })
    await alice.client.subscribeAsync('u/dave/presence')
    await sees(alice, 'dave', 'online')
    await dave.leaves()
    await sees(alice, 'dave', 'offline')
    t.same([saidOffline(alice, 'bob'), saidOffline(bob, 'alice')], [false, false], name)
  }
})

t.test('of a node that is killed all are offline within 15 s', { skip, timeout: 120_000 }, async (t) => {
  const shared = newCluster()
  const [a, process] = [await node(t, shared, 'a'), await nodeProcess(t, shared)]
  const alice = await a.actor('alice')
  const [bob, carol] = [await actorOf(process, 'bob'), await actorOf(process, 'carol')]
  const web = await a.actor('carol', { device: 'web' })
  for (const user of ['bob', 'carol']) {
    await alice.sends(`u/${user}`, 'hi')
    await watch(alice, user)
  }
  const before = Date.now()
  await process.kill()
  const gone = await sees(alice, 'bob', 'offline', deadMs)
  t.ok(Math.abs((gone.last_seen as number) - before) < 5_000, 'he was last seen at the last beat of his node')
  t.notOk(saidOffline(alice, 'carol'), 'carol has another device')
  await web.leaves()
  await sees(alice, 'carol', 'offline')
  for (const actor of [bob, carol]) await actor.isClosed()
})

t.test('a node that stands still for longer than its lease is back with all its users', { skip, timeout: 120_000 }, async (t) => {
  const shared = newCluster()
  const [a, process] = [await node(t, shared, 'a'), await nodeProcess(t, shared)]
  const [alice, bob] = [await a.actor('alice'), await actorOf(process, 'bob')]
  t.teardown(() => bob.leaves())
  await alice.sends('u/bob', 'hi')
  await watch(alice, 'bob')
  await watch(bob, 'alice')
  process.signal('SIGSTOP')
  await sees(alice, 'bob', 'offline', deadMs)
  process.signal('SIGCONT')
  await sees(alice, 'bob', 'online', deadMs)
  t.equal(bob.isConnected, true)
  t.notOk(saidOffline(bob, 'alice'))
})

t.test(
  'a node that is cut off from Redis looks dead to others, keeps what it knows, and is back at once',
  { skip, timeout: 120_000 },
  async (t) => {
    const shared = newCluster()
    const gate = await openGate(t, (redis as TestRedis).port)
    const [a, b] = [await node(t, shared, 'a'), await node(t, { ...shared, redisUrl: `redis://127.0.0.1:${gate.port}` }, 'b')]
    const [alice, bob] = await watching(a, b)
    gate.cut()
    await sees(alice, 'bob', 'offline', deadMs)
    await bob.callsInVain('presence', { users: ['alice'] }, 'unavailable')
    t.strictSame(await bob.calls('devices.list'), { devices: [{ device: 'phone', online: true }] })
    const carol = await b.actor('carol')
    gate.heal()
    await sees(alice, 'bob', 'online', deadMs)
    await alice.sends('u/carol', 'hi')
    await watch(alice, 'carol')
    await carol.leaves()
    await sees(alice, 'carol', 'offline')
    t.notOk(saidOffline(bob, 'alice'))
  },
)
