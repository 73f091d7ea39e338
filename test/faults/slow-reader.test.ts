/**
 * Subscribers that stop reading, or stop acknowledging: the others notice nothing, the server holds no more for them than
 * their window, and when they go on they get everything, in order, from the log. Those that never go on are closed.
 */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { puback } from '../helper/packets.js'
import { connectRaw, type Message, type RawClient } from '../helper/raw-client.js'
import { peakRssBytes, type ServerProcess, startServer, tokenOf } from '../helper/server-process.js'

const megabyte = 1_048_576
t.setTimeout(90_000)

async function open(server: ServerProcess, user: string, device: string, transport: 'tcp' | 'ws' = 'tcp'): Promise<RawClient> {
  const port = transport === 'tcp' ? server.mqttPort : server.httpPort
  return connectRaw({ port, transport, clientId: device, username: user, password: await tokenOf(user), clean: true, keepaliveS: 0 })
}

const seqsOf = (client: RawClient): number[] =>
  client.received
    .filter((packet): packet is Message => packet.cmd === 'publish' && packet.topic === 'g/team/msg')
    .map(({ payload }) => Number(/^\{"seq":(\d+)/.exec(payload.toString().slice(0, 30))?.[1]))

const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

async function sendMany(sender: RawClient, count: number, bytes: number): Promise<void> {
  for (let at = 0; at < count; at += 20) {
    await Promise.all(upTo(Math.min(20, count - at)).map((i) => sender.publish('g/team/msg', `${at + i} ${'x'.repeat(bytes)}`, { qos: 1 })))
  }
}

t.test('subscribers that stop reading', async (t) => {
  const frozenCount = 6
  const count = 1_000
  const bytes = 40_000
  const server = await startServer(t, { PARLEY_WINDOW: '64' })
  const sender = await open(server, 'ann', 'phone')
  const reader = await open(server, 'bob', 'phone')
  const frozen = await Promise.all(upTo(frozenCount).map((i) => open(server, 'cat', `d${i}`, i % 2 === 0 ? 'ws' : 'tcp')))
  await server.rpc('ann', 'group.create', { group: 'team', members: ['bob', 'cat'] })
  await Promise.all(frozen.map((client) => client.waitFor(({ cmd }) => cmd === 'publish')))
  for (const client of frozen) client.pause()
  await sendMany(sender, 50, bytes)
  const before = server.rssBytes()
  const peak = await peakRssBytes(server, async () => {
    await sendMany(sender, count - 50, bytes)
    await eventually(() => seqsOf(reader).length === count + 1, { timeoutMs: 20_000, what: 'the others get everything meanwhile' })
  })
  t.same(seqsOf(reader), upTo(count + 1))
  const held = frozen.map((client) => seqsOf(client).length)
  t.ok(
    held.every((seqs) => seqs < count),
    `the frozen ones have had ${held.join(', ')}`,
  )
  const grown = Math.round((peak - before) / megabyte)
  t.comment(`${Math.round((count * bytes) / megabyte)} MB sent; the server grew by ${grown} MB from ${Math.round(before / megabyte)} MB`)
  t.ok(peak - before < 120 * megabyte, `it grew by ${grown} MB, where ${(frozenCount * count * bytes) / megabyte} MB were withheld`)
  for (const client of frozen) client.resume()
  await eventually(() => frozen.every((client) => seqsOf(client).length >= count + 1), {
    timeoutMs: 30_000,
    everyMs: 50,
    what: 'they catch up',
  })
  for (const client of frozen) t.same(seqsOf(client), upTo(count + 1))
  t.equal(await server.metric('parley_sessions_behind'), 0)
})

t.test('a subscriber that never acknowledges', async (t) => {
  const server = await startServer(t, { PARLEY_WINDOW: '8' })
  const sender = await open(server, 'ann', 'phone')
  const reader = await open(server, 'bob', 'phone')
  const silent = await open(server, 'cat', 'phone')
  silent.autoAck = false
  await server.rpc('ann', 'group.create', { group: 'team', members: ['bob', 'cat'] })
  await sendMany(sender, 300, 10)
  await eventually(() => seqsOf(reader).length === 301)
  t.same(seqsOf(silent), upTo(8), 'the window, and nothing more')
  await silent.ping()
  t.same(seqsOf(silent), upTo(8))
  silent.autoAck = true
  for (const packet of silent.received) if (packet.cmd === 'publish') silent.send(puback(packet.messageId ?? 0))
  await eventually(() => seqsOf(silent).length >= 301)
  t.same(seqsOf(silent), upTo(301))
})

t.test('one that takes nothing for too long is closed', async (t) => {
  const server = await startServer(t, { PARLEY_SLOW_CLIENT_MS: '1000', PARLEY_WINDOW: '1024' })
  const sender = await open(server, 'ann', 'phone')
  const reader = await open(server, 'bob', 'phone')
  await server.rpc('ann', 'group.create', { group: 'team', members: ['bob'] })
  const frozen = await Promise.all((['tcp', 'ws'] as const).map((transport) => open(server, 'bob', `frozen-${transport}`, transport)))
  for (const client of frozen) client.pause()
  t.equal(await server.metric('parley_sessions'), 4)
  let sent = 0
  await eventually(
    async () => {
      if (sent < 1_500) await sendMany(sender, 50, 50_000)
      sent += 50
      return (await server.metric('parley_sessions')) === 2
    },
    { timeoutMs: 30_000, what: 'both are closed' },
  )
  t.notOk(reader.isClosed)
  t.notOk(sender.isClosed)
  await reader.ping()
})

t.test('a session that only receives a trickle is not taken for stuck', async (t) => {
  const server = await startServer(t, { PARLEY_SLOW_CLIENT_MS: '1000' })
  const sender = await open(server, 'ann', 'phone')
  const idle = await open(server, 'bob', 'phone')
  for (let i = 0; i < 4; i++) {
    await sender.publish('u/bob/msg', `${i}`, { qos: 1 })
    await delay(800)
  }
  t.notOk(idle.isClosed)
  await idle.ping()
})
