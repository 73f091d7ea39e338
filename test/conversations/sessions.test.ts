/** Sessions: what a device finds when it comes back, what it owes, and how a session ends. */
import assert from 'node:assert/strict'
import t from 'tap'
import { puback } from '../helper/packets.js'
import type { Message, RawClient } from '../helper/raw-client.js'
import { type Json, type Stage, stage } from '../helper/stage.js'

const bodyOf = (message: Message): Json => JSON.parse(message.payload.toString()) as Json

/** Takes messages on the user's inbox and returns their seqs, until one has `last`. */
async function rawRun(raw: RawClient, topic: string, last: number): Promise<number[]> {
  const seqs: number[] = []
  while (seqs.at(-1) !== last) seqs.push(bodyOf(await raw.message(topic)).seq as number)
  return seqs
}

const run = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

t.test('a persistent session gets what it missed, in order, then ready', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bob = await s.actor('bob', { clean: false })
  t.equal(bob.sessionPresent, false)
  t.strictSame(bob.ready, { type: 'ready', replayed: 0, heads: {} })
  await alice.sends('u/bob', 'live')
  await bob.receives({ seq: 1 })
  await s.caughtUp()
  await bob.leaves()
  for (let at = 2; at <= 20; at++) await alice.sends('u/bob', `missed ${at}`)
  const carol = await s.actor('carol')
  await carol.sends('u/bob', 'carol’s')
  await bob.returns()
  t.equal(bob.sessionPresent, true)
  t.strictSame(bob.ready, { type: 'ready', replayed: 20, heads: { 'u/alice': 20, 'u/carol': 1 } })
  t.equal(bob.heard.at(-1)?.body.type, 'ready', 'after the backlog')
  await bob.receivesRun('u/alice', 2, 19)
  await bob.receives({ conv: 'u/carol', seq: 1 })
  await bob.receivesNothing()
  await bob.leaves()
  await bob.returns()
  t.match(bob.ready, { replayed: 0, heads: { 'u/alice': 20, 'u/carol': 1 } }, 'heads tell of unread messages')
  await bob.reads('u/alice', 20)
  await bob.reads('u/carol', 1)
  await bob.leaves()
  await bob.returns()
  t.strictSame(bob.ready, { type: 'ready', replayed: 0, heads: {} })
  await bob.receivesNothing()
})

t.test('a clean session gets live messages only, and a ready', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'live')
  await bob.receives({ seq: 1 })
  await bob.leaves()
  await alice.sends('u/bob', 'missed')
  await bob.returns()
  t.equal(bob.sessionPresent, false)
  t.strictSame(bob.ready, { type: 'ready', replayed: 0, heads: { 'u/alice': 2 } })
  await alice.sends('u/bob', 'live again')
  await bob.receives({ seq: 3 })
  await bob.receivesNothing()
})

t.test('a clean connect ends the persistent session of that device', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bob = await s.actor('bob', { clean: false })
  await bob.leaves()
  await alice.sends('u/bob', 'missed')
  const fresh = await s.actor('bob', { clean: true })
  t.equal(fresh.sessionPresent, false)
  await fresh.receivesNothing()
  await fresh.leaves()
  await bob.returns()
  t.equal(bob.sessionPresent, false)
  t.equal(bob.ready.replayed, 0)
  await bob.receivesNothing()
})

t.test('two devices each keep their own place; a sender does not replay his own', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice', { clean: false })
  const phone = await s.actor('bob', { device: 'phone', clean: false })
  const web = await s.actor('bob', { device: 'web', clean: false, transport: 'ws' })
  await alice.sends('u/bob', 'one')
  await phone.receives({ seq: 1 })
  await web.receives({ seq: 1 })
  await s.caughtUp()
  await web.leaves()
  await phone.sends('u/alice', 'two, from the phone')
  await alice.sends('u/bob', 'three')
  await phone.receives({ seq: 3 })
  await phone.leaves()
  await alice.sends('u/bob', 'four')
  await web.returns()
  t.equal(web.ready.replayed, 3)
  await web.receivesRun('u/alice', 2, 3)
  await phone.returns()
  t.equal(phone.ready.replayed, 1)
  await phone.receives({ seq: 4 })
  await alice.receives({ seq: 2 })
  await alice.leaves()
  await alice.returns()
  t.equal(alice.ready.replayed, 0, 'what a device sent itself is never sent back to it')
  for (const actor of [alice, phone, web]) await actor.receivesNothing()
})

t.test('sessions and their places survive a restart of the server', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice', { clean: false })
  const bob = await s.actor('bob', { clean: false })
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.sends('u/bob', 'one')
  await alice.sends('g/team', 'two')
  await bob.receives({ conv: 'g/team', seq: 1 })
  await bob.receives({ conv: 'u/alice', seq: 1 })
  await bob.receives({ conv: 'g/team', seq: 2 })
  await bob.receivesNothing()
  await s.restart()
  await bob.isClosed()
  await alice.returns()
  t.equal(alice.sessionPresent, true)
  await alice.sends('u/bob', 'three')
  await alice.sends('g/team', 'four')
  await bob.returns()
  t.equal(bob.sessionPresent, true)
  t.strictSame(bob.ready.replayed, 2)
  await bob.receives({ conv: 'u/alice', seq: 2 })
  await bob.receives({ conv: 'g/team', seq: 3 })
  await bob.receivesNothing()
})

t.test('a backlog over the bounds is cut at the old end and named', async (t) => {
  const s = await stage(t, { conversationBacklogMax: 5, sessionBacklogMax: 8 })
  const [alice, carol, dave] = await s.cast(['alice', 'carol', 'dave'])
  const bob = await s.actor('bob', { clean: false })
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.receives({ seq: 1 })
  await bob.receives({ seq: 1 })
  await s.caughtUp()
  await bob.leaves()
  for (let at = 1; at <= 7; at++) await dave.sends('u/bob', `dave ${at}`)
  await s.clockMoves()
  for (let at = 1; at <= 12; at++) await alice.sends('g/team', `team ${at}`)
  await s.clockMoves()
  for (let at = 1; at <= 2; at++) await carol.sends('u/bob', `carol ${at}`)
  await bob.returns()
  const { replayed, heads, truncated } = bob.ready
  t.strictSame(heads, { 'u/carol': 2, 'g/team': 13, 'u/dave': 7 })
  t.equal(replayed, 8)
  t.strictSame(truncated, { 'g/team': [2, 8], 'u/dave': [1, 6] }, 'newest conversations first')
  await bob.receivesRun('u/carol', 1, 2)
  await bob.receivesRun('g/team', 9, 5)
  await bob.receives({ conv: 'u/dave', seq: 7 })
  await bob.receivesNothing()
  const missing = await bob.calls<{ messages: Json[] }>('history', { conv: 'g/team', after: 1, limit: 7 })
  t.strictSame(
    missing.messages.map(({ seq }) => seq),
    run(2, 8),
    'history has what was cut',
  )
  await bob.leaves()
  await bob.returns()
  t.equal(bob.ready.replayed, 0)
  t.equal(bob.ready.truncated, undefined, 'a cut is named once')
})

t.test('a backlog of exactly the bound is whole', async (t) => {
  const s = await stage(t, { conversationBacklogMax: 5, sessionBacklogMax: 5 })
  const alice = await s.actor('alice')
  const bob = await s.actor('bob', { clean: false })
  await bob.leaves()
  for (let at = 1; at <= 5; at++) await alice.sends('u/bob', `${at}`)
  await bob.returns()
  t.strictSame(bob.ready, { type: 'ready', replayed: 5, heads: { 'u/alice': 5 } })
  await bob.receivesRun('u/alice', 1, 5)
})

t.test('the same device twice: the later one wins and nothing is lost', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const first = await s.actor('bob', { clean: false })
  await alice.sends('u/bob', 'one')
  await first.receives({ seq: 1 })
  const second = await s.actor('bob', { clean: false })
  await first.isClosed()
  t.equal(second.sessionPresent, true)
  await alice.sends('u/bob', 'two')
  if (second.ready.replayed === 1) await second.receives({ seq: 1 })
  await second.receives({ seq: 2 })
  await second.receivesNothing()
  const other = await s.actor('carol', { device: 'phone' })
  t.ok(second.isConnected && other.isConnected, 'another user’s device of that name is another session')
})

t.test('takeovers under load lose nothing', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  let bob = await s.actor('bob', { clean: false })
  const seen = new Set<number>()
  const take = (): void => {
    for (const { conv, body } of bob.inbox) if (conv === 'u/alice') seen.add(body.seq as number)
  }
  let isOver = false
  const sending = (async () => {
    let sent = 0
    while (!isOver) await alice.sends('u/bob', `${++sent}`)
    return sent
  })()
  for (let takeovers = 0; takeovers < 10; takeovers++) {
    const next = await s.actor('bob', { clean: false })
    await bob.isClosed()
    take()
    bob = next
  }
  isOver = true
  const sent = await sending
  await s.caughtUp()
  await bob.calls('conversations', { limit: 1 })
  take()
  t.strictSame(
    [...seen].sort((a, b) => a - b),
    run(1, sent),
  )
})

t.test('the cursor moves by PUBACK alone', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  let bob = await s.raw('bob', { clean: false })
  await bob.message('u/bob/event')
  bob.autoAck = false
  for (let at = 1; at <= 6; at++) await alice.sends('u/bob', `${at}`)
  const messages: Message[] = []
  for (let at = 1; at <= 6; at++) messages.push(await bob.message('u/bob/msg'))
  t.strictSame(
    messages.map((message) => bodyOf(message).seq),
    run(1, 6),
  )
  const ids = messages.map(({ messageId }) => messageId as number)
  bob.send(...[0, 1, 3, 4].map((at) => puback(ids[at] as number)))
  await bob.ping()
  bob.reset()
  await bob.closed
  bob = await s.raw('bob', { clean: false, autoAck: false })
  t.equal(bob.sessionPresent, true)
  t.strictSame(await rawRun(bob, 'u/bob/msg', 6), run(3, 6), 'from the first that was not acknowledged on')
  bob.reset()
  await bob.closed
  await s.restart()
  bob = await s.raw('bob', { clean: false })
  t.strictSame(await rawRun(bob, 'u/bob/msg', 6), run(3, 6), 'again, with the same seqs')
  t.match(bodyOf(await bob.message('u/bob/event')), { type: 'ready', replayed: 4, heads: { 'u/alice': 6 } })
  await bob.ping()
  bob.reset()
  await bob.closed
  bob = await s.raw('bob', { clean: false })
  t.match(bodyOf(await bob.message('u/bob/event')), { type: 'ready', replayed: 0 })
})

t.test('a subscriber that does not acknowledge stops at its window, the others do not', async (t) => {
  const s = await stage(t, { window: 10 })
  const [alice, dave] = await s.cast(['alice', 'dave'])
  for (const transport of ['tcp', 'ws'] as const) {
    const conv = `g/${transport}`
    await s.admin('POST', '/users', { user: 'bob' })
    await alice.calls('group.create', { group: transport, members: ['bob', 'dave'] })
    const bob = await s.raw('bob', { clean: true, autoAck: false, clientId: transport, transport })
    bob.send(puback((await bob.message('u/bob/event')).messageId as number))
    const count = 95
    for (let at = 0; at < count; at++) await alice.sends(conv, `${at}`)
    await dave.receivesRun(conv, 1, count + 1)
    await bob.ping()
    const waiting = bob.inbox.filter((packet) => packet.cmd === 'publish')
    t.equal(waiting.length, 10, `${transport}: the window`)
    const seqs: unknown[] = []
    while (seqs.length < count) {
      const message = await bob.message(`${conv}/msg`)
      seqs.push(bodyOf(message).seq)
      bob.send(puback(message.messageId as number))
    }
    t.strictSame(seqs, run(2, count + 1), `${transport}: all of it, in order`)
    await alice.sends(conv, 'last')
    t.match(bodyOf(await bob.message(`${conv}/msg`)), { seq: count + 2, body: 'last' }, 'and live again')
    await dave.receives({ conv, seq: count + 2 })
  }
})

t.test('late, unknown and doubled PUBACKs change nothing', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bob = await s.raw('bob', { clean: false, autoAck: false })
  const ready = await bob.message('u/bob/event')
  for (let at = 1; at <= 3; at++) await alice.sends('u/bob', `${at}`)
  const messages = [await bob.message('u/bob/msg'), await bob.message('u/bob/msg'), await bob.message('u/bob/msg')]
  const id = (at: number): number => messages[at]?.messageId as number
  bob.send(puback(30_000), puback(id(2)), puback(id(2)), puback(id(0)), puback(id(0)), puback(ready.messageId as number))
  await bob.ping()
  bob.reset()
  await bob.closed
  const again = await s.raw('bob', { clean: false })
  t.strictSame(await rawRun(again, 'u/bob/msg', 3), [2, 3])
})

t.test('the connection ends with its token', async (t) => {
  const s = await stage(t)
  const short = await s.token('bob', { expiresInSeconds: 4 })
  const bob = await s.actor('bob', { token: short, clean: false })
  const web = await s.actor('bob', { token: short, device: 'web', transport: 'ws' })
  const alice = await s.actor('alice')
  await bob.isClosed()
  await web.isClosed()
  t.ok(alice.isConnected, 'others stay')
  await alice.sends('u/bob', 'while away')
  const fresh = await s.actor('bob', { clean: false })
  t.equal(fresh.ready.replayed, 1, 'the session goes on with another token')
  const dead = await s.token('bob', { expiresInSeconds: -60 })
  await t.rejects(s.actor('bob', { device: 'other', token: dead }), /Bad|not auth|Connection refused/i)
})

t.test('who may not connect', async (t) => {
  const s = await stage(t)
  await s.actor('alice', { token: await s.token('alice') })
  await t.rejects(s.actor('alice', { device: 'a', token: await s.token('bob') }), /Connection refused/, 'a token of another user')
  await t.rejects(s.actor('alice', { device: 'b', token: 'nonsense' }), /Connection refused/)
  await t.rejects(s.actor('alice', { device: 'c', token: '' }), /Connection refused/)
  await t.rejects(s.actor('alice', { device: 'not a device id!' }), /Connection refused/)
  await t.rejects(s.actor('alice', { device: 'd'.repeat(65) }), /Connection refused/)
  await t.rejects(s.actor('a b', { token: await s.token('a b') }), /Connection refused/)
  await t.rejects(s.raw('alice', { username: '', password: await s.token('alice') }), /CONNACK 4/)
})

t.test('an admin ends the sessions of a user, and revokes the tokens', async (t) => {
  const s: Stage = await stage(t)
  const old = await s.token('bob')
  const phone = await s.actor('bob', { device: 'phone', clean: false, token: old })
  const web = await s.actor('bob', { device: 'web', token: old, transport: 'ws' })
  const away = await s.actor('bob', { device: 'away', clean: false, token: old })
  await away.leaves()
  const alice = await s.actor('alice')
  t.strictSame(await s.admin('DELETE', '/users/bob/sessions'), { ended: 3, revoked: false })
  await phone.isClosed()
  await web.isClosed()
  t.ok(alice.isConnected)
  await alice.sends('u/bob', 'to nobody')
  for (const actor of [phone, away]) {
    await actor.returns()
    t.equal(actor.sessionPresent, false, `${actor.name} is forgotten`)
    t.equal(actor.ready.replayed, 0)
    await actor.receivesNothing()
  }
  t.strictSame(await s.admin('DELETE', '/users/bob/sessions', { revoke: true }), { ended: 2, revoked: true })
  await phone.isClosed()
  await assert.rejects(phone.returns(), /Connection refused/, 'the old token')
  const called = await s.http('POST', '/v1/rpc/conversations', { token: old, body: {} })
  t.ok([401, 403].includes(called.status))
  t.equal((await s.http('DELETE', '/v1/admin/users/nobody/sessions', { token: await s.adminToken() })).status, 404)
})

t.test('a new token works from the second after a revocation on', async (t) => {
  const s = await stage(t)
  await s.admin('POST', '/users', { user: 'bob' })
  await s.admin('DELETE', '/users/bob/sessions', { revoke: true })
  const deadline = Date.now() + 10_000
  for (;;) {
    const bob = s.absent('bob')
    try {
      await bob.connects()
      break
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
  t.pass('connected')
})
