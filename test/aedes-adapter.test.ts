/** What the adapter relies on inside Aedes: fails when an update of Aedes changes it, and says which part. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Aedes } from 'aedes'
import t, { type Test } from 'tap'
import { AedesStream } from '../broker/aedes-stream.js'
import { createServer } from '../broker/server.js'
import * as packets from './helper/packets.js'
import { connectRaw } from './helper/raw-client.js'

interface Inner {
  _nextId: unknown
  duplicates: unknown
  conn: unknown
  subscriptions: unknown
}

async function startBroker(t: Test, events: string[]): Promise<Aedes> {
  const broker = await Aedes.createBroker({
    preConnect: (_client, _packet, callback) => {
      events.push('preConnect')
      callback(null, true)
    },
    authenticate: (_client, _username, _password, callback) => {
      events.push('authenticate')
      callback(null, true)
    },
  })
  t.teardown(() => new Promise<void>((resolve) => broker.close(() => resolve())))
  for (const name of ['client', 'connackSent', 'clientReady'] as const) broker.on(name as 'client', () => events.push(name))
  return broker
}

t.test('a client of Aedes has the private parts, and its connect goes in the order that the adapter needs', async (t) => {
  const events: string[] = []
  const broker = await startBroker(t, events)
  const sent: Buffer[] = []
  const stream = new AedesStream({
    onPacket: (packet) => {
      if ((packet[0] as number) >> 4 === 2) events.push('CONNACK')
      sent.push(packet)
    },
    onDestroy: () => stream.emit('close'),
    onRead: () => undefined,
    isCongested: () => false,
  })
  const client = broker.handle(stream as never) as unknown as Inner
  t.equal(typeof client._nextId, 'number', 'packet ids are taken from client._nextId')
  t.equal(typeof client.duplicates, 'object', 'repeats are looked up in client.duplicates')
  t.equal(client.conn, stream, 'the stream is client.conn')
  t.strictSame(Object.keys(client.subscriptions as object), [], 'filters are the keys of client.subscriptions')
  const ready = new Promise((resolve) => broker.once('clientReady', resolve))
  stream.give(packets.connect({ clientId: 'x', clean: true }))
  await ready
  t.strictSame(events, ['preConnect', 'authenticate', 'client', 'CONNACK', 'connackSent', 'clientReady'])
  t.strictSame(sent[0], Buffer.from([0x20, 2, 0, 0]))
})

async function serve(t: Test): Promise<{ port: number }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'parley-adapter-'))
  const topics = [{ topic: '#', publish: true, subscribe: true }]
  const server = await createServer({
    mqttPort: 0,
    httpPort: 0,
    dataDir,
    anonymous: true,
    topics,
    rateLimit: undefined,
    logLevel: 'silent',
  })
  t.teardown(async () => {
    await server.close()
    await rm(dataDir, { recursive: true, force: true })
  })
  return { port: server.mqttPort ?? 0 }
}

t.test('packet ids of application messages lie in the upper half, also behind a long queue', async (t) => {
  const { port } = await serve(t)
  const publisher = await connectRaw({ port, clientId: 'publisher' })
  const receiver = await connectRaw({ port, clientId: 'receiver', clean: false, autoAck: false })
  await receiver.subscribe(['queue', 1])
  for (let n = 0; n < 50; n++) await publisher.publish('queue', String(n), { qos: 1 })
  for (let n = 0; n < 50; n++) t.ok(Number((await receiver.message('queue')).messageId) > 32_767)
  receiver.reset()
  await receiver.closed
  const again = await connectRaw({ port, clientId: 'receiver', clean: false, autoAck: false })
  const ids = new Set<number>()
  for (let n = 0; n < 50; n++) ids.add(Number((await again.message('queue')).messageId))
  await publisher.publish('queue', 'new', { qos: 1 })
  const fresh = Number((await again.message('queue')).messageId)
  t.notOk(ids.has(fresh), 'an id that is still in use is not given again')
  again.reset()
})

t.test('a message that a later one overtakes is not lost (aedes#994)', async (t) => {
  const { port } = await serve(t)
  const publisher = await connectRaw({ port, clientId: 'publisher' })
  const receiver = await connectRaw({ port, clientId: 'receiver' })
  await receiver.subscribe(['slow', 1], ['fast', 0])
  const count = 100
  for (let n = 0; n < count; n++) {
    receiver.inbox.length = 0
    const stored = publisher.publish('slow', String(n), { qos: 1 })
    await publisher.publish('fast', String(n), { qos: 0 })
    await stored
  }
  await publisher.publish('slow', 'end', { qos: 1 })
  await receiver.waitFor((packet) => packet.cmd === 'publish' && packet.payload.toString() === 'end')
  const slow = receiver.received.filter((packet) => packet.cmd === 'publish' && packet.topic === 'slow')
  t.equal(slow.length, count + 1)
})
