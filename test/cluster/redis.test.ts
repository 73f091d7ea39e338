/** Redis dies, forgets, drops its subscribers, or cannot be reached from one node: messages are acknowledged all the same, and all of them arrive. */
import t from 'tap'
import { Chat } from '../helper/chat.js'
import { type RealCluster, startCluster } from '../helper/real-cluster.js'

t.setTimeout(240_000)
const cluster = (await startCluster(t)) as RealCluster
const skip = cluster === undefined

t.test('Redis is killed, and comes back having forgotten everything', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  await cluster.redis.kill()
  await chat.goesOn()
  await chat.isHeardEverywhere()
  await cluster.redis.start()
  await chat.goesOn()
  await chat.ends()
  t.equal(chat.cuts, 0, 'nobody noticed')
})

t.test('FLUSHALL', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  for (let times = 0; times < 3; times++) {
    await cluster.redis.command('FLUSHALL')
    await chat.goesOn()
  }
  await chat.ends()
  t.equal(chat.cuts, 0, 'nobody noticed')
})

t.test('the connections on which nodes hear each other are cut, again and again', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  for (let times = 0; times < 5; times++) {
    t.not(await cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'), '0', 'somebody was subscribed')
    await chat.goesOn()
  }
  await chat.isHeardEverywhere()
  await chat.ends()
  t.equal(chat.cuts, 0, 'nobody noticed')
})

t.test('one node is cut off from Redis', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  const gate = cluster.gate(cluster.nodes[1], 'redis')
  gate.cutOff()
  await chat.goesOn()
  await chat.isHeardEverywhere()
  gate.heal()
  await chat.goesOn()
  await chat.ends()
  t.equal(chat.cuts, 0, 'nobody noticed')
})
