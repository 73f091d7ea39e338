/**
 * Three nodes on a Redis Cluster, and on a Redis that Sentinels look after: a master is killed and its replica takes over. People go on writing to each
 * other without a cut, hear all of it, and are shown as what they are; what nodes tell each other, and what is published on application topics, keeps its order.
 */
import { connectAsync } from 'mqtt'
import t, { type Test } from 'tap'
import { createLogger } from '../../broker/logger.js'
import { RedisBus } from '../../broker/redis/redis-bus.js'
import { Chat } from '../helper/chat.js'
import { eventually } from '../helper/eventually.js'
import { startNodes } from '../helper/real-cluster.js'
import { newPrefix } from '../helper/redis.js'
import { startRedisCluster, startSentinel, type Topology } from '../helper/redis-topologies.js'
import { type ServerProcess, tokenOf } from '../helper/server-process.js'

t.setTimeout(300_000)
const waitMs = 60_000
const settings = { PARLEY_TOPICS: '[{"topic":"room/#","publish":true,"subscribe":true}]', PARLEY_PRESENCE_GRACE_MS: '500' }

/** What a user is told by every node of who is there. */
const isShown = (nodes: readonly ServerProcess[], asker: string, user: string, status: string): Promise<unknown> =>
  eventually(
    async () => {
      for (const node of nodes) {
        const { presence } = (await node.rpc(asker, 'presence', { users: [user] })) as { presence: Record<string, { status: string }> }
        if (presence[user]?.status !== status) return Promise.reject(new Error(`${user} is ${presence[user]?.status}`))
      }
      return true
    },
    { timeoutMs: waitMs, everyMs: 100, what: `${user} is shown ${status}` },
  )

async function join({ mqttPort }: ServerProcess, user: string) {
  const heard: string[] = []
  const options = { username: user, password: await tokenOf(user), clientId: 'app', protocolVersion: 4 as const }
  const client = await connectAsync(`mqtt://127.0.0.1:${mqttPort}`, options)
  client.on('message', (topic, payload) => void (topic.startsWith('room/') && heard.push(payload.toString())))
  return { client, heard }
}

/** Kills the master of a key in the midst of a chat, one after the other, and starts it again as a replica. */
async function survives(t: Test, topology: Topology, keys: readonly ((prefix: string) => string)[]): Promise<void> {
  const cluster = await startNodes(t, async () => topology.url, settings)
  if (cluster === undefined) return
  const { nodes, prefix } = cluster
  const [publisher, receiver] = [await join(nodes[0], 'pub'), await join(nodes[1], 'sub')]
  t.teardown(() => Promise.all([publisher, receiver].map(({ client }) => client.endAsync(true))))
  await receiver.client.subscribeAsync('room/1', { qos: 1 })
  const publishes = async (text: string): Promise<void> => {
    await eventually(() => publisher.client.publishAsync('room/1', text, { qos: 1 }), { timeoutMs: waitMs })
    await eventually(() => receiver.heard.includes(text), { timeoutMs: waitMs, what: `${text} is heard on the other node` })
  }
  const chat = await Chat.begins(t, cluster)
  const [ann, ben] = [chat.devices[0], chat.devices[2]] as [Chat['devices'][0], Chat['devices'][0]]
  await isShown(nodes, ann.user, ben.user, 'online')
  await publishes('before')
  for (const [at, keyOf] of keys.entries()) {
    const master = await topology.masterOf(keyOf(prefix))
    await master.kill()
    await chat.goesOn()
    await topology.isWhole(0)
    await chat.goesOn()
    await chat.isHeardEverywhere()
    for (const user of new Set(chat.devices.map((device) => device.user))) await isShown(nodes, ann.user, user, 'online')
    await publishes(`after ${at}`)
    await master.start()
    await topology.isWhole(1)
  }
  t.equal(chat.cuts, 0, 'nobody noticed')
  t.same(
    nodes.flatMap(({ log }) => log.filter(({ level }) => level === 'error' || level === 'fatal')),
    [],
    'no node logged a fault',
  )
  await chat.ends()
  const leaving = chat.devices.filter(({ user }) => user === ben.user)
  await Promise.all(leaving.map((device) => device.stops()))
  await isShown(nodes, ann.user, ben.user, 'offline')
}

/** In order, without a loss while nothing fails; and again though Redis has refused for a moment to let them subscribe anew. */
async function keepsOrder(t: Test, { url, servers }: Topology): Promise<void> {
  const options = { url, prefix: newPrefix(), key: Buffer.alloc(32, 1), logger: createLogger('silent') }
  const buses = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((nodeId) => RedisBus.open({ ...options, nodeId })))
  t.teardown(() => {
    for (const bus of buses) bus.close()
  })
  const [first, ...others] = buses as [RedisBus, ...RedisBus[]]
  const heard = others.map((bus): number[] => {
    const numbers: number[] = []
    bus.on('count', (message) => void numbers.push(Number(message)))
    return numbers
  })
  for (let n = 0; n < 2_000; n++) {
    first.publish('count', Buffer.from(String(n)))
    if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await eventually(() => heard.every(({ length }) => length === 2_000), { timeoutMs: waitMs })
  t.ok(
    heard.every((numbers) => numbers.every((number, at) => number === at)),
    'in order',
  )
  const all = (...words: string[]) => Promise.all(servers.map((server) => server.command(...words)))
  await all('ACL', 'SETUSER', 'default', '-subscribe')
  await all('CLIENT', 'KILL', 'TYPE', 'pubsub')
  const refusals = async (): Promise<number> =>
    [...(await all('ACL', 'LOG')).join('\n').matchAll(/^count\n(\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0)
  await eventually(async () => (await refusals()) >= buses.length, {
    timeoutMs: waitMs,
    everyMs: 50,
    what: 'all were refused to subscribe again',
  })
  await all('ACL', 'SETUSER', 'default', '+subscribe')
  const again = new Set<RedisBus>()
  for (const bus of buses) bus.on('again', () => void again.add(bus))
  await eventually(
    () => {
      for (const bus of buses) bus.publish('again', Buffer.alloc(0))
      return again.size === buses.length
    },
    { timeoutMs: waitMs, everyMs: 100, what: 'all hear each other again' },
  )
}

t.test('a Redis Cluster', async (t) => {
  const topology = await startRedisCluster(t)
  if (topology === undefined) return
  await keepsOrder(t, topology)
  // Of the nodes that live, of who is connected, and of the subscriptions to application topics.
  await survives(t, topology, [(prefix) => `${prefix}nodes`, (prefix) => `${prefix}devices:x`])
})

t.test('Sentinel', async (t) => {
  const topology = await startSentinel(t)
  if (topology === undefined) return
  await keepsOrder(t, topology)
  await survives(t, topology, [(prefix) => prefix, (prefix) => prefix])
})
