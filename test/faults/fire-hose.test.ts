/**
 * One client publishes 50,000 messages and reads nothing: the server stops reading it before its answers pile up, others are
 * served meanwhile, and when it reads again all its messages are stored, in order.
 */
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { readLog } from '../helper/final-log.js'
import { publish } from '../helper/packets.js'
import { connectRaw, type Message, type RawClient } from '../helper/raw-client.js'
import { peakRssBytes, type ServerProcess, startServer, tokenOf } from '../helper/server-process.js'

const megabyte = 1_048_576
const count = 50_000
t.setTimeout(120_000)

const open = async (server: ServerProcess, user: string): Promise<RawClient> =>
  connectRaw({ port: server.mqttPort, clientId: 'phone', username: user, password: await tokenOf(user), keepaliveS: 0 })

async function pingPong(one: RawClient, other: RawClient, rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    await one.publish('u/dan/msg', `ping ${i}`, { qos: 1 })
    await other.waitFor((packet): packet is Message => packet.cmd === 'publish' && packet.payload.toString().includes(`ping ${i}"`))
  }
}

for (const qos of [1, 0]) {
  t.test(`QoS ${qos}`, async (t) => {
    const server = await startServer(t)
    const [hose, cat, dan] = await Promise.all(['ann', 'cat', 'dan'].map((user) => open(server, user)))
    if (hose === undefined || cat === undefined || dan === undefined) return t.fail('not connected')
    await open(server, 'bob')
    hose.autoAck = false
    await pingPong(cat, dan, 5)
    const before = server.rssBytes()
    const peak = await peakRssBytes(server, async () => {
      hose.pause()
      for (let at = 1; at <= count; at += 500) {
        const chunk = Array.from({ length: 500 }, (_, i) => {
          const name = `m${at + i}`
          return publish({ topic: 'u/bob/msg', payload: `{"id":"${name}","body":"${name}"}`, qos, packetId: ((at + i) % 65_535) + 1 })
        })
        hose.send(...chunk)
      }
      await pingPong(cat, dan, 30)
      hose.resume()
      const messages = () => server.metric('parley_sends_total')
      await eventually(async () => (await messages()) >= count, { timeoutMs: 60_000, everyMs: 50, what: 'all are handled' })
    })
    const grown = Math.round((peak - before) / megabyte)
    t.comment(`the server grew by ${grown} MB from ${Math.round(before / megabyte)} MB`)
    t.ok(peak - before < 150 * megabyte, `it grew by ${grown} MB`)
    if (qos === 1) await eventually(() => hose.received.filter(({ cmd }) => cmd === 'puback').length === count, { timeoutMs: 20_000 })
    await server.stop()
    const log = await readLog(server.dir, ['u/ann/bob'])
    const wrong = (log.get('u/ann/bob') ?? []).findIndex(({ id, seq }, index) => id !== `m${index + 1}` || seq !== index + 1)
    t.equal(wrong, -1, 'in order')
    t.equal(log.get('u/ann/bob')?.length, count)
  })
}

t.test('calls whose large answers nobody reads', async (t) => {
  const server = await startServer(t)
  const [caller, cat, dan] = await Promise.all(['ann', 'cat', 'dan'].map((user) => open(server, user)))
  if (caller === undefined || cat === undefined || dan === undefined) return t.fail('not connected')
  for (let i = 0; i < 4; i++) await caller.publish('u/ann/msg', 'x'.repeat(45_000), { qos: 1 })
  await pingPong(cat, dan, 5)
  const calls = 3_000
  const before = server.rssBytes()
  const peak = await peakRssBytes(server, async () => {
    caller.pause()
    for (let i = 1; i <= calls; i++) {
      const payload = `{"id":"${i}","params":{"conv":"u/ann"}}`
      caller.send(publish({ topic: 'rpc/history', payload, qos: 1, packetId: i }))
      // In portions, so that each call has a large answer and none is refused as one too many.
      if (i % 30 === 0) await pingPong(cat, dan, 2)
    }
  })
  const grown = Math.round((peak - before) / megabyte)
  t.comment(`the server grew by ${grown} MB from ${Math.round(before / megabyte)} MB`)
  t.ok(peak - before < 150 * megabyte, `it grew by ${grown} MB, where ${Math.round((calls * 180_000) / megabyte)} MB were asked for`)
  caller.resume()
  await caller.expect('puback', calls, 30_000)
  t.pass('when it reads, it is answered to the end')
})

t.test('a persistent session withholds every PUBACK while it sends', async (t) => {
  const server = await startServer(t)
  // So many that the ids behind them would be the first ones again.
  const sends = 28_700
  const ann = await connectRaw({
    port: server.mqttPort,
    clientId: 'phone',
    username: 'ann',
    password: await tokenOf('ann'),
    clean: false,
    keepaliveS: 0,
    autoAck: false,
  })
  const bob = await open(server, 'bob')
  await bob.publish('u/ann/msg', 'never acknowledged', { qos: 1 })
  for (let at = 0; at < sends; at += 700) {
    for (let i = 1; i <= 700; i++) ann.send(publish({ topic: 'u/bob/msg', payload: `${at + i}`, qos: 1, packetId: i }))
    await ann.expect('puback', 700, 20_000)
  }
  for (let i = 0; i < 20; i++) await bob.publish('u/ann/msg', 'one more', { qos: 1 })
  await bob.publish('u/ann/msg', 'behind all that', { qos: 1 })
  const ids = new Set<number>()
  for (const packet of ann.received) {
    if (packet.cmd !== 'publish' || packet.qos === 0) continue
    const id = packet.messageId ?? 0
    if (ids.has(id)) return t.fail(`packet id ${id} was used again before it was acknowledged`)
    ids.add(id)
  }
  ann.autoAck = true
  for (const id of ids) ann.send(Buffer.of(0x40, 2, id >> 8, id & 0xff))
  await ann.waitFor((packet): packet is Message => packet.cmd === 'publish' && packet.payload.toString().includes('behind all that'), {
    timeoutMs: 20_000,
  })
})
