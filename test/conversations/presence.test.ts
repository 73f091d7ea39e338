/** Presence: who sees whom online, when he is told of a change, and who sees nothing. */
import t, { type Test } from 'tap'
import type { Actor, Json } from '../helper/actor.js'
import { eventually } from '../helper/eventually.js'
import { type Stage, stage } from '../helper/stage.js'

const graceMs = 300

const sees = async (actor: Actor, user: string): Promise<Json> => {
  const { body, qos, retain } = await actor.takes(`the presence of ${user}`, ({ topic }) => topic === `u/${user}/presence`)
  t.strictSame([qos, retain], [0, false])
  return body
}

const watches = async (actor: Actor, ...users: string[]): Promise<number[]> => {
  const granted = await actor.client.subscribeAsync(users.map((user) => `u/${user}/presence`))
  return granted.map(({ qos }) => qos as number)
}

/** mqtt.js rejects when a filter is refused. */
const isRefused = (t: Test, actor: Actor, user: string): Promise<unknown> =>
  t.rejects(actor.client.subscribeAsync(`u/${user}/presence`), { message: /Unspecified error|Subscribe error|0x80|128/ })

/** By asking. */
async function isOffline(actor: Actor, user: string): Promise<void> {
  await eventually(async () => {
    const { presence } = await actor.calls<{ presence: Record<string, Json> }>('presence', { users: [user] })
    return presence[user]?.status === 'offline'
  })
}

async function acquainted(s: Stage, from: Actor, ...peers: Actor[]): Promise<void> {
  for (const peer of peers) {
    await from.sends(`u/${peer.user}`, 'hi')
    await peer.receives({ from: from.user })
  }
  await s.caughtUp()
}

t.test('the present value comes at once, then each change; a short break is none', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await isRefused(t, alice, 'bob')
  await isRefused(t, alice, 'nobody')
  await acquainted(s, alice, bob)
  t.strictSame(await watches(alice, 'bob'), [0])
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
  await bob.drops()
  await bob.returns()
  const before = Date.now()
  await bob.leaves()
  const gone = await sees(alice, 'bob')
  t.match(gone, { status: 'offline', last_seen: Number })
  t.ok((gone.last_seen as number) >= before && (gone.last_seen as number) <= Date.now())
  t.strictSame(await alice.calls('presence', { users: ['bob', 'nobody'] }), { presence: { bob: gone } })
  await watches(alice, 'bob')
  t.strictSame(await sees(alice, 'bob'), gone, 'who subscribes again gets the value again')
  await bob.returns()
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
  const { status, body } = await s.http('POST', '/v1/rpc/presence', {
    token: await s.token('alice'),
    body: { users: ['bob', 'bob', 'alice'] },
  })
  t.strictSame([status, body], [200, { presence: { bob: { status: 'online' }, alice: { status: 'online' } } }])
  await alice.client.unsubscribeAsync('u/bob/presence')
  await bob.leaves()
  await isOffline(alice, 'bob')
  await alice.receivesNothing()
})

t.test('a user is online while one of his devices is', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('bob', { device: 'web' })
  await alice.sends('u/bob', 'hi')
  await watches(alice, 'bob')
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
  await bob.leaves()
  await eventually(async () => (await web.calls<{ devices: Json[] }>('devices.list')).devices.length === 1, { what: 'the grace is over' })
  await alice.receivesNothing()
  await web.leaves()
  t.match(await sees(alice, 'bob'), { status: 'offline' })
})

t.test('members of a group see each other, until one of them is no member any more', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob, carol, dave] = await s.cast(['alice', 'bob', 'carol', 'dave'])
  await alice.calls('group.create', { group: 'team', members: ['bob', 'carol', 'dave'] })
  for (const actor of [alice, bob, carol, dave]) await actor.receives({ seq: 1 })
  t.strictSame(await watches(bob, 'carol', 'dave'), [0, 0])
  for (const user of ['carol', 'dave']) t.strictSame(await sees(bob, user), { status: 'online' })
  t.strictSame(await watches(carol, 'bob'), [0])
  t.strictSame(await sees(carol, 'bob'), { status: 'online' })
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
  for (const user of ['carol', 'dave']) t.strictSame(await sees(bob, user), { status: 'offline' }, 'the last that he hears')
  t.strictSame(await sees(carol, 'bob'), { status: 'offline' })
  await isRefused(t, bob, 'carol')
  t.strictSame(await bob.calls('presence', { users: ['carol'] }), { presence: {} })
  await carol.leaves()
  await bob.leaves()
  await isOffline(dave, 'carol')
  t.notOk(bob.inbox.some(({ topic }) => topic === 'u/carol/presence'))
})

t.test('who shares another conversation goes on watching', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (const group of ['one', 'two']) {
    await alice.calls('group.create', { group, members: ['bob'] })
    for (const actor of [alice, bob]) await actor.receives({ group })
  }
  await watches(bob, 'alice')
  t.strictSame(await sees(bob, 'alice'), { status: 'online' })
  await alice.calls('group.remove', { group: 'one', users: ['bob'] })
  for (const actor of [alice, bob]) await actor.receives({ group: 'one', seq: 2 })
  await bob.receivesNothing()
  await alice.calls('group.dissolve', { group: 'two' })
  t.strictSame(await sees(bob, 'alice'), { status: 'offline' })
})

t.test('who is blocked sees nobody, until he is not any more', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await acquainted(s, alice, bob)
  await watches(alice, 'bob')
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
  await bob.calls('blocks.add', { user: 'alice' })
  t.strictSame(await sees(alice, 'bob'), { status: 'offline' })
  t.strictSame(await alice.calls('presence', { users: ['bob'] }), { presence: { bob: { status: 'offline' } } })
  t.strictSame(await bob.calls('presence', { users: ['alice'] }), { presence: { alice: { status: 'online' } } })
  await bob.hears({ type: 'block', user: 'alice', on: true })
  await bob.calls('blocks.remove', { user: 'alice' })
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
})

t.test('who does not want to be disturbed is busy', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await acquainted(s, alice, bob)
  await bob.calls('profile.update', { status: 'busy' })
  await watches(alice, 'bob')
  t.strictSame(await sees(alice, 'bob'), { status: 'online', busy: true })
  await bob.calls('profile.update', { status: 'available' })
  t.strictSame(await sees(alice, 'bob'), { status: 'online' })
  await bob.calls('profile.update', { status: 'busy' })
  t.strictSame(await sees(alice, 'bob'), { status: 'online', busy: true })
  await bob.leaves()
  t.match(await sees(alice, 'bob'), { status: 'offline', busy: undefined })
})

t.test('a session watches so many users, and one of them once', async (t) => {
  const s = await stage(t, { subscriptionsMax: 2 })
  const alice = await s.actor('alice')
  const peers = await s.cast(['bob', 'carol', 'dave'])
  await acquainted(s, alice, ...peers)
  t.strictSame(await watches(alice, 'bob', 'carol', 'bob'), [0, 0, 0])
  await isRefused(t, alice, 'dave')
  await alice.client.unsubscribeAsync('u/carol/presence')
  t.strictSame(await watches(alice, 'dave'), [0])
  const { body } = await s.http('POST', '/v1/rpc/presence', { token: await s.token('alice'), body: { users: new Array(201).fill('bob') } })
  t.equal((body.error as Json).code, 'invalid')
})

t.test('when somebody was last seen stays over a restart', async (t) => {
  const s = await stage(t, { presenceGraceMs: graceMs })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await acquainted(s, alice, bob)
  await bob.leaves()
  await watches(alice, 'bob')
  let seen = await sees(alice, 'bob')
  if (seen.status === 'online') seen = await sees(alice, 'bob')
  await s.restart()
  await alice.returns()
  t.strictSame(await alice.calls('presence', { users: ['bob'] }), { presence: { bob: seen } })
  const exported = await s.exported('bob')
  t.strictSame(
    exported.filter(({ kind }) => kind === 'seen'),
    [{ kind: 'seen', ts: seen.last_seen }],
  )
})
