/** SUBSCRIBE, and application topics beside chat: who may subscribe and publish where, retained messages, wills, anonymous clients. */
import t, { type Test } from 'tap'
import { type Asked, publish, subscribe } from '../helper/packets.js'
import { connectRaw, type RawClient } from '../helper/raw-client.js'
import { type Actor, type Stage, stage } from '../helper/stage.js'

const no = 0x80

async function rawUser(s: Stage, user: string, clientId = 'raw'): Promise<RawClient> {
  const raw = await s.raw(user, { clientId })
  await raw.message(`u/${user}/event`)
  return raw
}

async function grants(actor: Actor, ...filters: string[]): Promise<number[]> {
  const codes: number[] = []
  for (const filter of filters) {
    const granted = await actor.client.subscribeAsync(filter, { qos: 1 }).catch((error: { packet?: { granted?: number[] } }) => error)
    if (Array.isArray(granted)) codes.push(granted[0]?.qos as number)
    else codes.push(no)
  }
  return codes
}

t.test('own topics are granted and change nothing; foreign ones are refused', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await bob.calls('group.create', { group: 'theirs' })
  await bob.receives({ seq: 1 })
  await bob.calls('group.create', { group: 'team', members: ['alice'] })
  await alice.receives({ seq: 1 })
  await bob.receives({ seq: 1 })
  t.strictSame(
    await grants(alice, 'u/alice/#', 'u/alice/msg', 'u/alice/+', 'u/alice', 'g/+/msg', 'g/#', 'g/team/msg', 'g/team/#'),
    new Array(8).fill(1),
  )
  const foreign = [
    '#',
    '+/#',
    'u/+/msg',
    'u/#',
    'u/bob/msg',
    'u/bob/#',
    '$SYS/#',
    '$SYS/broker/uptime',
    '+/+/msg',
    '+/alice/msg',
    'g/theirs/msg',
    'g/nothing/msg',
    'rpc/#',
    'rpc/history',
    'u',
    'g',
    'free/topic',
    '$share/x/u/alice/msg',
  ]
  t.strictSame(
    await grants(alice, ...foreign),
    foreign.map(() => no),
  )
  await bob.sends('u/alice', 'once')
  await bob.sends('g/team', 'once')
  await alice.receives({ conv: 'u/bob', seq: 1 })
  await alice.receives({ conv: 'g/team', seq: 2 })
  await alice.client.unsubscribeAsync(['u/alice/msg', 'g/+/msg', 'u/bob/msg', 'free/topic'])
  await bob.sends('u/alice', 'still')
  await alice.receives({ conv: 'u/bob', seq: 2 })
  await bob.sends('g/theirs', 'secret')
  const mallory = await s.actor('mallory')
  await bob.sends('u/mallory', 'not for alice')
  await mallory.receives({ seq: 1 })
  await alice.receivesNothing()
})

t.test('one SUBSCRIBE of all kinds: one code each, in order', async (t) => {
  const s = await stage(t, { topics: [{ topic: 'news/#', subscribe: true }] })
  const bob = await s.actor('bob')
  await bob.calls('group.create', { group: 'theirs' })
  const alice = await rawUser(s, 'alice')
  const asked: Asked[] = [
    ['u/alice/#', 1],
    ['u/bob/msg', 1],
    ['news/a', 2],
    ['g/theirs/msg', 1],
    ['news/a', 0],
    ['closed', 1],
    ['g/+/msg', 0],
    ['#', 1],
    ['news/#', 1],
  ]
  const codes = await alice.subscribe(...asked)
  t.equal(codes.length, asked.length)
  t.strictSame(
    codes.map((code) => code === no),
    [false, true, false, true, false, true, false, true, false],
  )
  t.equal(codes[8], 1)
})

t.test('10,000 filters in one packet', async (t) => {
  const s = await stage(t)
  const alice = await rawUser(s, 'alice')
  const asked = Array.from({ length: 10_000 }, (_, at): Asked => [`t/${at}`, 1])
  t.strictSame(
    await alice.subscribe(...asked),
    asked.map(() => no),
  )
  t.strictSame(await alice.subscribe(['u/alice/#', 1]), [1], 'and the connection goes on')
})

t.test('the bound of subscriptions is that of the session, over all its connections', async (t) => {
  const s = await stage(t, { topics: [{ topic: '#', subscribe: true }], subscriptionsMax: 3 })
  const first = await s.raw('alice', { clean: false })
  t.strictSame(await first.subscribe(['a', 1], ['b', 1]), [1, 1])
  await first.disconnect()
  const second = await s.raw('alice', { clean: false })
  t.ok(second.sessionPresent)
  t.strictSame(await second.subscribe(['c', 1], ['d', 1], ['a', 0]), [1, no, 0])
  await second.unsubscribe('b')
  t.strictSame(await second.subscribe(['d', 1], ['e', 1]), [1, no])
})

t.test('more than 100 levels are refused, and the connection goes on', async (t) => {
  const s = await stage(t, { topics: [{ topic: '#', publish: true, subscribe: true }] })
  const alice = await rawUser(s, 'alice')
  const [most, over] = [new Array(100).fill('a').join('/'), new Array(101).fill('a').join('/')]
  t.strictSame(await alice.subscribe([over, 1], [most, 1], [`${over}/#`, 0]), [no, 1, no])
  await alice.publish(over, 'x', { qos: 1 })
  t.match(JSON.parse((await alice.message('u/alice/ack')).payload.toString()), { topic: over, error: { code: 'not_found' } })
  await alice.publish(most, 'fence', { qos: 1 })
  await alice.message(most)
  await alice.unsubscribe(over)
  await alice.unsubscribe(over, 'u/alice/#', most)
  await alice.publish(most, 'to nobody', { qos: 1 })
  await alice.ping()
  t.notOk(alice.inbox.some((packet) => packet.cmd === 'publish'))
})

t.test(
  'the first packet on an application topic and thousands behind it, in one write: all in order, the chat between them too',
  async (t) => {
    const s = await stage(t, { topics: [{ topic: 'a/#', publish: true, subscribe: true }] })
    const alice = await rawUser(s, 'alice')
    const count = 3_000
    const publishes = Array.from({ length: count }, (_, at) => publish({ topic: 'a/b', qos: 1, packetId: at + 2, payload: String(at) }))
    const chat = publish({ topic: 'u/alice/msg', qos: 1, packetId: count + 2, payload: '{"id":"c1","body":"between"}' })
    alice.send(Buffer.concat([subscribe(1, ['a/#', 0]), ...publishes.slice(0, 1_500), chat, ...publishes.slice(1_500)]))
    await alice.expect('suback', 1)
    t.match(JSON.parse((await alice.message('u/alice/ack')).payload.toString()), { id: 'c1', seq: 1 })
    for (let at = 0; at < count; at++) if ((await alice.message('a/b')).payload.toString() !== String(at)) t.fail(`${at} is not next`)
    await alice.expect('puback', count + 1)
  },
)

t.test('application topics follow their rules', async (t) => {
  const s = await stage(t, {
    topics: [
      { topic: 'iot/{user}/#', publish: true, subscribe: true },
      { topic: 'news/secret' },
      { topic: 'news/#', subscribe: true },
      { topic: 'in', publish: true },
    ],
  })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('alice', { device: 'web' })
  t.strictSame(await grants(web, 'iot/alice/#', 'news/today', 'iot/bob/#', 'iot/+/#', 'in', 'news/secret'), [1, 1, no, no, no, no])
  await alice.publishes('iot/alice/temp', '21')
  const got = await web.gets('iot/alice/temp', '21')
  t.match(got, { qos: 1, retain: false })
  await alice.isDenied('iot/bob/temp', 'x', 'forbidden')
  await alice.isDenied('news/today', 'x', 'forbidden')
  await alice.isDenied('free', 'x', 'forbidden')
  await alice.publishes('in', 'taken')
  await alice.publishes('iot/alice/kept', 'retained', 1, true)
  await web.gets('iot/alice/kept', 'retained')
  t.strictSame(await grants(alice, 'iot/alice/kept'), [1])
  t.match(await alice.gets('iot/alice/kept', 'retained'), { retain: true })
  for (const actor of [alice, bob, web]) await actor.receivesNothing()
})

t.test('a denied publish is acknowledged, named, and forwarded to nobody', async (t) => {
  const s = await stage(t, {
    topics: [
      { topic: 'open/#', publish: true, subscribe: true },
      { topic: '+', subscribe: true },
    ],
  })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  t.strictSame(await grants(bob, '+', 'open/#'), [1, 1])
  await alice.isDenied('closed', 'x', 'forbidden')
  await alice.isDenied('closed', 'x', 'forbidden', true)
  await alice.publishes('open/x', 'fence')
  await bob.gets('open/x', 'fence')
  t.strictSame(await grants(alice, 'closed'), [1])
  await bob.receivesNothing()
  await alice.receivesNothing()
})

t.test('every forward is judged by its own topic', async (t) => {
  const s = await stage(t, {
    topics: [
      { topic: 'test/nosubscribe', publish: true },
      { topic: '#', publish: true, subscribe: true },
    ],
  })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  t.strictSame(await grants(bob, 'test/#', 'test/nosubscribe'), [1, no])
  await alice.publishes('test/nosubscribe', 'hidden')
  await alice.publishes('test/other', 'seen')
  await bob.gets('test/other', 'seen')
  await bob.receivesNothing()
})

const conformance = {
  anonymous: true,
  topics: [
    { topic: 'test/nosubscribe', publish: true },
    { topic: '#', publish: true, subscribe: true },
  ],
}

async function anonymous(t: Test, s: Stage, clientId: string): Promise<RawClient> {
  const raw = await connectRaw({ port: s.mqttPort, clientId })
  t.teardown(() => raw.reset())
  return raw
}

t.test('anonymous clients: application topics only, nothing unasked, wildcards never match chat', async (t) => {
  const s = await stage(t, conformance)
  const nobody = await anonymous(t, s, 'bob')
  const [alice, bob] = await s.cast(['alice', 'bob'])
  t.strictSame(await grants(alice, '#', '+/+/+'), [1, 1])
  t.strictSame(await nobody.subscribe(['#', 1], ['+/+/msg', 1], ['u/#', 1], ['u/bob/msg', 1], ['g/+/msg', 1], ['$SYS/#', 1]), [
    1,
    1,
    no,
    no,
    no,
    no,
  ])
  await bob.calls('group.create', { group: 'team', members: ['alice'] })
  await alice.receives({ seq: 1 })
  await bob.receives({ seq: 1 })
  await bob.sends('g/team', 'secret')
  await bob.sends('u/alice', 'secret')
  await alice.receives({ conv: 'g/team', seq: 2 })
  await alice.receives({ conv: 'u/bob', seq: 1 })
  for (const [topic, payload] of [
    ['u/bob/msg', 'spam'],
    ['g/team/msg', 'spam'],
    ['u/bob/read', '{"seq":1}'],
    ['rpc/conversations', '{"id":"1"}'],
    ['$SYS/x', 'x'],
  ] as const)
    await nobody.publish(topic, payload, { qos: 1 })
  await nobody.publish('fence', 'x', { qos: 1 })
  t.match((await nobody.message()).topic, 'fence')
  t.strictSame(nobody.inbox, [], 'nothing came unasked')
  await alice.gets('fence', 'x')
  await bob.receivesNothing()
  await alice.receivesNothing()
})

t.test('anonymous clients without a client id have a rate of their own each', async (t) => {
  const s = await stage(t, { ...conformance, rateLimit: { perSecond: 0.01, burst: 1 } })
  const reader = await anonymous(t, s, 'reader')
  await reader.subscribe(['x', 1])
  for (const payload of ['first', 'second']) {
    const nobody = await anonymous(t, s, '')
    await nobody.publish('x', payload, { qos: 1 })
    t.equal((await reader.message()).payload.toString(), payload)
  }
})

t.test('without the setting there are no anonymous clients', async (t) => {
  const s = await stage(t)
  await t.rejects(anonymous(t, s, 'x'), /CONNACK 5/)
})

t.test('a will on a chat topic is sent as a message, in the user’s name', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  const alice = await s.actor('alice', { will: { topic: 'u/bob/msg', payload: '{"id":"will","body":"I am gone"}' } })
  const web = await s.actor('alice', { device: 'web' })
  await alice.drops()
  await bob.receives({ conv: 'u/alice', from: 'alice', to: 'bob', seq: 1, id: 'will', body: 'I am gone' })
  await web.receives({ conv: 'u/bob', seq: 1 })
  await alice.returns()
  await alice.leaves()
  await bob.receivesNothing()
  const plain = await s.actor('alice', { device: 'plain', will: { topic: 'g/nothing/msg', payload: 'x' } })
  await plain.drops()
  const impostor = await s.actor('alice', { device: 'bad', will: { topic: 'u/bob/msg', payload: '{"type":"system","body":1}' } })
  await impostor.drops()
  await bob.receivesNothing()
  t.equal((await bob.calls<{ head: number }>('history', { conv: 'u/alice' })).head, 1)
})

t.test('a will on an application topic', async (t) => {
  const s = await stage(t, {
    topics: [
      { topic: 'presence/{user}', publish: true },
      { topic: 'presence/+', subscribe: true },
    ],
  })
  const bob = await s.actor('bob')
  t.strictSame(await grants(bob, 'presence/+'), [1])
  const alice = await s.actor('alice', { will: { topic: 'presence/alice', payload: 'gone' } })
  await alice.drops()
  await bob.gets('presence/alice', 'gone')
  const mallory = await s.actor('mallory', { will: { topic: 'presence/alice', payload: 'forged' } })
  await mallory.drops()
  await alice.returns()
  await alice.drops()
  await bob.gets('presence/alice', 'gone')
  await bob.receivesNothing()
})
