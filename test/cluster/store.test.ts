/** The store dies, is slow, or cannot be reached from one node: while it is away nothing is acknowledged, and nothing is lost or doubled by it. */
import t from 'tap'
import { Chat } from '../helper/chat.js'
import { eventually } from '../helper/eventually.js'
import { type RealCluster, startCluster } from '../helper/real-cluster.js'

t.setTimeout(240_000)
const cluster = (await startCluster(t, { PARLEY_STORE_RETRY_MS: '3000' })) as RealCluster
const skip = cluster === undefined

t.test(
  'the store is killed and comes back',
  { skip: skip || (cluster.storeProcess === undefined && 'the store is not ours to kill') },
  async (t) => {
    const chat = await Chat.begins(t, cluster)
    t.teardown(() => cluster.storeProcess?.start())
    const { cuts } = chat
    await cluster.storeProcess?.kill()
    const notReady = async (): Promise<boolean> =>
      (await Promise.all(cluster.nodes.map((node) => node.readyStatus()))).every((status) => status === 503)
    await eventually(notReady, { timeoutMs: 60_000, what: 'every node says that it takes no messages' })
    const { acked } = chat
    await eventually(() => chat.cuts >= cuts + chat.devices.length, {
      timeoutMs: 60_000,
      what: 'connections are closed without an acknowledgement',
    })
    const connectsRefused = async (): Promise<number> =>
      (await Promise.all(cluster.nodes.map((node) => node.metric('parley_connects_refused_total')))).reduce((sum, each) => sum + each, 0)
    const refused = await connectsRefused()
    await eventually(async () => (await connectsRefused()) > refused, { timeoutMs: 60_000, what: 'devices come back in vain' })
    t.equal(chat.acked, acked, 'nothing was acknowledged')
    await cluster.storeProcess?.start()
    await chat.goesOn()
    await chat.ends()
  },
)

t.test('the store takes two seconds longer', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  for (const node of cluster.nodes) cluster.gate(node, 'store').slowDown(1_000)
  await chat.storesMore(3)
  for (const node of cluster.nodes) cluster.gate(node, 'store').heal()
  await chat.ends()
})

t.test('one node is cut off from the store: its clients find another', { skip }, async (t) => {
  const chat = await Chat.begins(t, cluster)
  const gate = cluster.gate(cluster.nodes[2], 'store')
  gate.cutOff()
  await chat.goesOn()
  gate.heal()
  await chat.goesOn()
  await chat.ends()
})
