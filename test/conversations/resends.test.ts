/** "Stored once": resends, conflicts, QoS 2 repeats and MQTT retransmissions of sends without an id. */
import t from 'tap'
import { publish, pubrel } from '../helper/packets.js'
import type { RawClient } from '../helper/raw-client.js'
import { type Actor, type Json, type Stage, stage } from '../helper/stage.js'

const ackOf = async (raw: RawClient, user: string): Promise<Json> =>
  JSON.parse((await raw.message(`u/${user}/ack`)).payload.toString()) as Json

const headOf = async (actor: Actor, conv: string): Promise<unknown> => (await actor.calls('history', { conv })).head

/** A client that leaves nothing unread: its `ready` is taken. */
async function rawAlice(s: Stage, options: { clean?: boolean; clientId?: string } = {}): Promise<RawClient> {
  const raw = await s.raw('alice', options)
  await raw.message('u/alice/event')
  return raw
}

t.test('a resend is answered with the first seq and not delivered again', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('alice', { device: 'web' })
  const first = await alice.sends('u/bob', { id: 'c1', body: 'hi' })
  await alice.sends('u/bob', { id: 'c2', body: 'more' })
  for (const again of [
    await alice.sends('u/bob', { id: 'c1', body: 'hi' }),
    await web.sends('u/bob', { id: 'c1', type: 'text', body: 'hi' }),
  ])
    t.strictSame(again, { ...first, dup: true }, 'also from another device')
  await web.receives({ id: 'c1', seq: 1 })
  await web.receives({ id: 'c2', seq: 2 })
  await bob.receives({ id: 'c1', seq: 1 })
  await bob.receives({ id: 'c2', seq: 2 })
  for (const actor of [alice, web, bob]) await actor.receivesNothing()
  await s.restart()
  await alice.returns()
  await bob.returns()
  t.strictSame(await alice.sends('u/bob', { id: 'c1', body: 'hi' }), { ...first, dup: true }, 'for ever')
  t.equal((await alice.sends('u/bob', { id: 'c3', body: 'next' })).seq, 3)
  await bob.receives({ seq: 3 })
  await bob.receivesNothing()
})

t.test('who has a PUBACK has been told before what became of it, wherever the connection breaks', async (t) => {
  const s = await stage(t)
  await s.cast(['bob'])
  const raw = await rawAlice(s)
  const sends = ['u/bob', 'u/nobody', 'u/bob', 'g/nowhere', 'u/bob'].map((to, at) =>
    publish({ topic: `${to}/msg`, payload: `{"id":"c${at}","body":"hi"}`, qos: 1, packetId: at + 1 }),
  )
  raw.send(...sends, publish({ topic: 'u/alice/nothing', payload: 'x', qos: 1, packetId: 6 }))
  await raw.expect('puback', 6)
  const told = (upTo: number) => raw.received.slice(0, upTo).filter(({ cmd }) => cmd === 'publish').length - 1
  const pubacks = raw.received.flatMap(({ cmd }, at) => (cmd === 'puback' ? [at] : []))
  t.equal(pubacks.length, 6)
  for (const [index, at] of pubacks.entries()) t.ok(told(at) > index, `${told(at)} acks before PUBACK ${index + 1}`)
})

t.test('the same id with another content is a conflict', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', { id: 'c1', body: 'hi', meta: { a: 1 } })
  const others: Json[] = [
    { body: 'ho', meta: { a: 1 } },
    { body: 'hi' },
    { body: 'hi', meta: { a: 2 } },
    { body: 'hi', meta: { a: 1 }, re: 1 },
  ]
  for (const other of others) t.match(await alice.isRefused('u/bob', { id: 'c1', ...other }, 'conflict'), /seq 1\b/)
  await alice.isRefused('u/bob', { id: 'c1', type: 'x-text', body: 'hi', meta: { a: 1 } }, 'conflict')
  await bob.receives({ seq: 1, body: 'hi' })
  await bob.receivesNothing()
  await s.restart()
  await alice.returns()
  await alice.isRefused('u/bob', { id: 'c1', body: 'ho' }, 'conflict')
  t.match(await alice.sends('u/bob', { id: 'c1', body: 'hi', meta: { a: 1 } }), { dup: true, seq: 1 })
})

t.test('the same id by another sender or in another conversation is another message', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  t.match(await alice.sends('u/bob', { id: 'c1', body: 'to bob' }), { seq: 1, dup: undefined })
  t.match(await bob.sends('u/alice', { id: 'c1', body: 'to alice' }), { seq: 2, dup: undefined })
  t.match(await alice.sends('u/carol', { id: 'c1', body: 'to carol' }), { seq: 1, dup: undefined })
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  t.match(await alice.sends('g/team', { id: 'c1', body: 'to all' }), { seq: 2, dup: undefined })
  await carol.receives({ conv: 'u/alice', body: 'to carol' })
  await carol.receivesNothing()
})

t.test('a conflict and a resend within one write', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const raw = await rawAlice(s)
  const send = (packetId: number, body: string) =>
    publish({ topic: 'u/bob/msg', qos: 1, packetId, payload: JSON.stringify({ id: 'c1', body }) })
  raw.send(send(1, 'hi'), send(2, 'hi'), send(3, 'ho'))
  for (const packetId of [1, 2, 3]) await raw.expect('puback', packetId)
  const acks = [await ackOf(raw, 'alice'), await ackOf(raw, 'alice'), await ackOf(raw, 'alice')]
  t.equal(acks.filter(({ seq, dup }) => seq === 1 && dup === undefined).length, 1)
  t.equal(acks.filter(({ seq, dup }) => seq === 1 && dup === true).length, 1)
  t.equal(acks.filter(({ error }) => (error as Json)?.code === 'conflict').length, 1)
  await bob.receives({ seq: 1, body: 'hi' })
  await bob.receivesNothing()
  t.equal(await headOf(alice, 'u/bob'), 1)
})

t.test('QoS 2: a repeated PUBLISH before PUBREL is stored once', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const raw = await rawAlice(s)
  const packet = { topic: 'u/bob/msg', qos: 2, packetId: 7, payload: 'no id' }
  raw.send(publish(packet))
  await raw.expect('pubrec', 7)
  raw.send(publish({ ...packet, dup: true }))
  await raw.expect('pubrec', 7)
  raw.send(pubrel(7))
  await raw.expect('pubcomp', 7)
  raw.send(pubrel(7))
  await raw.expect('pubcomp', 7)
  await bob.receives({ seq: 1, body: 'no id' })
  raw.send(publish(packet))
  await raw.expect('pubrec', 7)
  raw.send(pubrel(7))
  await raw.expect('pubcomp', 7)
  await bob.receives({ seq: 2, body: 'no id' })
  await bob.receivesNothing()
  t.equal(await headOf(alice, 'u/bob'), 2, 'a released packet id is free for the same text again')
})

t.test('QoS 2: both copies within one write', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  const raw = await rawAlice(s)
  const packet = { topic: 'u/bob/msg', qos: 2, packetId: 7, payload: 'no id' }
  raw.send(publish(packet), publish(packet))
  await raw.expect('pubrec', 7)
  raw.send(pubrel(7))
  await raw.expect('pubcomp', 7)
  await bob.receives({ seq: 1 })
  await bob.receivesNothing()
  t.equal(raw.isClosed, false)
})

t.test('QoS 2: the connection is lost between PUBLISH and PUBREL', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  const packet = { topic: 'u/bob/msg', qos: 2, packetId: 7, payload: 'no id' }
  const first = await rawAlice(s, { clean: false })
  first.send(publish(packet))
  await first.expect('pubrec', 7)
  first.reset()
  await first.closed
  const second = await rawAlice(s, { clean: false })
  t.equal(second.sessionPresent, true)
  second.send(publish({ ...packet, dup: true }))
  await second.expect('pubrec', 7)
  second.send(pubrel(7))
  await second.expect('pubcomp', 7)
  await bob.receives({ seq: 1 })
  await bob.receivesNothing()
  second.reset()
  await second.closed
  const third = await rawAlice(s, { clean: false })
  third.send(pubrel(7))
  await third.expect('pubcomp', 7)
})

t.test('without an id: a retransmission is recognised by session, packet id and payload', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  let raw = await rawAlice(s, { clean: false })
  const packet = { topic: 'u/bob/msg', qos: 1, packetId: 5, payload: 'no id' }
  const sends = async (fields: Partial<typeof packet & { dup: boolean }>): Promise<Json> => {
    raw.send(publish({ ...packet, ...fields }))
    await raw.expect('puback', fields.packetId ?? 5)
    return ackOf(raw, 'alice')
  }
  const again = async (): Promise<void> => {
    raw = await rawAlice(s, { clean: false })
  }
  const first = await sends({})
  t.match(first, { seq: 1, dup: undefined })
  t.strictSame(await sends({ dup: true }), { ...first, dup: true })
  raw.reset()
  await again()
  t.strictSame(await sends({ dup: true }), { ...first, dup: true }, 'across a reconnect')
  await s.restart()
  await again()
  t.strictSame(await sends({ dup: true }), { ...first, dup: true }, 'across a restart')
  t.match(await sends({ dup: true, payload: 'other text' }), { seq: 2, dup: undefined }, 'another payload is another message')
  t.match(await sends({ dup: true, packetId: 6, payload: 'other text' }), { seq: 3, dup: undefined }, 'another packet id, too')
  t.match(await sends({}), { seq: 4, dup: undefined }, 'without DUP it is stored again')
  t.match(await sends({ dup: true }), { seq: 4, dup: true }, 'and is the one that a retransmission means')
  const other = await rawAlice(s, { clientId: 'other' })
  other.send(publish({ ...packet, dup: true }))
  await other.expect('puback', 5)
  t.match(await ackOf(other, 'alice'), { seq: 5, dup: undefined }, 'another session')
  await bob.returns()
  await s.caughtUp()
  t.equal(await headOf(bob, 'u/alice'), 5)
})

t.test('without an id every name of a device will do', async (t) => {
  const s = await stage(t)
  await s.actor('bob')
  const packet = { topic: 'u/bob/msg', qos: 1, packetId: 7, payload: 'hi' }
  for (const clientId of ['~', '~phone', '.', '-_-']) {
    const raw = await rawAlice(s, { clientId })
    raw.send(publish(packet))
    const { seq } = await ackOf(raw, 'alice')
    raw.send(publish({ ...packet, dup: true }))
    t.match(await ackOf(raw, 'alice'), { seq, dup: true }, clientId)
    await raw.disconnect()
  }
})

t.test('without an id: the retransmission overtakes the commit of the first', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  const raw = await rawAlice(s)
  const packet = { topic: 'u/bob/msg', qos: 1, packetId: 5, payload: 'no id' }
  raw.send(publish(packet), publish({ ...packet, dup: true }))
  t.match(await ackOf(raw, 'alice'), { seq: 1, dup: undefined })
  t.match(await ackOf(raw, 'alice'), { seq: 1, dup: true })
  await bob.receives({ seq: 1 })
  await bob.receivesNothing()
})

t.test('without an id and without DUP: two sends are two messages', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  const raw = await rawAlice(s)
  const packet = { topic: 'u/bob/msg', qos: 1, packetId: 5, payload: 'no id' }
  raw.send(publish(packet), publish(packet))
  t.match(await ackOf(raw, 'alice'), { seq: 1 })
  t.match(await ackOf(raw, 'alice'), { seq: 2 })
  const first = await bob.receives({ seq: 1, body: 'no id' })
  const second = await bob.receives({ seq: 2, body: 'no id' })
  t.not(first.id, second.id)
})
