/** Direct messages: who gets what, in which form, and what is refused. */
import t from 'tap'
import { publish } from '../helper/packets.js'
import { type Json, stage } from '../helper/stage.js'

const keys = (body: Json): string[] => Object.keys(body).sort()

t.test('a message and its answer', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const ack = await alice.sends('u/bob', { id: 'c1', type: 'text', body: 'hi' })
  t.strictSame(keys(ack), ['conv', 'id', 'seq', 'ts'])
  t.match(ack, { id: 'c1', conv: 'u/bob', seq: 1 })
  t.ok(Math.abs(ack.ts - Date.now()) < 60_000, 'ts is in ms')
  const stored = { seq: 1, ts: ack.ts, from: 'alice', to: 'bob', id: 'c1', type: 'text', body: 'hi' }
  t.strictSame(await bob.receives({ topic: 'u/bob/msg', conv: 'u/alice' }), stored)
  const answer = await bob.sends('u/alice', { id: 'c1', body: 'hello' })
  t.equal(answer.seq, 2, 'one conversation, one numbering')
  await alice.receives({ topic: 'u/alice/msg', conv: 'u/bob', seq: 2, from: 'bob', to: 'alice', id: 'c1', type: 'text', body: 'hello' })
  await alice.receivesNothing()
  await bob.receivesNothing()
})

t.test('own other devices get the message, the sending session only the ack', async (t) => {
  const s = await stage(t)
  const phone = await s.actor('alice', { device: 'phone' })
  const web = await s.actor('alice', { device: 'web', transport: 'ws' })
  const bob = await s.actor('bob', { transport: 'ws' })
  const carol = await s.actor('carol')
  await phone.sends('u/bob', 'hi')
  await web.receives({ topic: 'u/alice/msg', conv: 'u/bob', from: 'alice', to: 'bob', seq: 1, body: 'hi' })
  await bob.receives({ conv: 'u/alice', seq: 1 })
  for (const actor of [phone, web, bob, carol]) await actor.receivesNothing()
  await web.sends('u/bob', 'from the web')
  await phone.receives({ conv: 'u/bob', seq: 2, body: 'from the web' })
  await bob.receives({ seq: 2 })
  await web.receivesNothing()
  await carol.callsInVain('history', { conv: 'u/nobody' }, 'not_found')
  t.strictSame((await carol.calls('history', { conv: 'u/bob' })).messages, [])
})

t.test('a note to oneself', async (t) => {
  const s = await stage(t)
  const phone = await s.actor('alice', { device: 'phone' })
  const web = await s.actor('alice', { device: 'web' })
  t.match(await phone.sends('u/alice', 'milk'), { conv: 'u/alice', seq: 1 })
  await web.receives({ topic: 'u/alice/msg', conv: 'u/alice', from: 'alice', to: 'alice', seq: 1, body: 'milk' })
  await web.receivesNothing()
  await phone.receivesNothing()
  t.equal(((await web.calls('history', { conv: 'u/alice' })).messages as Json[]).length, 1)
})

const media = { url: 'https://x.example/a', mime: 'image/png', size: 10 }
const good: Json[] = [
  { type: 'text', body: '' },
  { type: 'image', body: { ...media, width: 1, height: 2 } },
  { type: 'image', body: { ...media, width: 1, height: 2, thumb: 'data:' } },
  { type: 'voice', body: { ...media, duration_ms: 1200 } },
  { type: 'file', body: { ...media, name: 'a.pdf' } },
  { type: 'reaction', body: { seq: 1, emoji: '👍', on: true } },
  { type: 'edit', body: { seq: 1, body: 'better' } },
  { type: 'recall', body: { seq: 1 } },
  { type: 'x-poll', body: { any: ['thing', 1, null] } },
  { type: 'x-', body: null },
  { type: 'x-number', body: 0 },
]

t.test('every type is stored as it was sent', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'first')
  await bob.receives({ seq: 1 })
  for (const [at, message] of good.entries()) {
    const ack = await alice.sends('u/bob', { ...message, id: `m${at}` })
    const stored = { seq: at + 2, ts: ack.ts, from: 'alice', to: 'bob', id: `m${at}`, ...message }
    t.strictSame(await bob.receives({}), stored, JSON.stringify(message))
  }
  const rich = { re: 1, mentions: ['bob', 'a.b~c_d-'], meta: { deep: { x: [1] } }, type: 'text', body: 'with all' }
  await alice.sends('u/bob', rich)
  const { seq, ts, from, to, id, ...rest } = await bob.receives({ from: 'alice', to: 'bob' })
  t.strictSame(rest, rich)
  t.ok(seq && ts && from && to && id)
})

t.test('a bad body is refused, and nothing is stored', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'first')
  await bob.receives({ seq: 1 })
  const bad: Json[] = [
    { type: 'text', body: 1 },
    { type: 'text', body: { text: 'hi' } },
    { type: 'text', body: null },
    { type: 'text' },
    {},
    { type: 'image', body: media },
    { type: 'image', body: { ...media, width: '1', height: 2 } },
    { type: 'image', body: { ...media, width: -1, height: 2 } },
    { type: 'image', body: { ...media, width: 1, height: 2, extra: 1 } },
    { type: 'image', body: 'url' },
    { type: 'voice', body: media },
    { type: 'voice', body: { ...media, duration_ms: 1.5 } },
    { type: 'file', body: media },
    { type: 'file', body: { ...media, name: 1 } },
    { type: 'recall', body: {} },
    { type: 'recall', body: { seq: 0 } },
    { type: 'recall', body: { seq: '1' } },
    { type: 'recall', body: { seq: 1, x: 1 } },
    { type: 'edit', body: { seq: 1 } },
    { type: 'reaction', body: { seq: 1, emoji: '👍' } },
    { type: 'reaction', body: { seq: 1, emoji: '', on: true } },
    { type: 'reaction', body: { seq: 1, emoji: '👍', on: 'yes' } },
    { type: 'system', body: { event: 'added', users: ['mallory'] } },
    { type: 'unheard', body: 'x' },
    { type: 'X-upper', body: 'x' },
    { type: '', body: 'x' },
    { type: 1, body: 'x' },
    { type: `x-${'a'.repeat(63)}`, body: 1 },
    { body: 'x', unknown: 1 },
    { body: 'x', seq: 9 },
    { body: 'x', from: 'bob' },
    { body: 'x', ts: 1 },
    { body: 'x', re: 0 },
    { body: 'x', re: '1' },
    { body: 'x', re: -1 },
    { body: 'x', re: 1.5 },
    { body: 'x', mentions: 'bob' },
    { body: 'x', mentions: ['not an id!'] },
    { body: 'x', meta: [] },
    { body: 'x', meta: 'x' },
    { body: 'x', id: 'a'.repeat(65) },
  ]
  for (const message of bad) t.ok(await alice.isRefused('u/bob', message, 'invalid'), JSON.stringify(message))
  for (const text of ['{"id":7,"body":"x"}', '{"id":"","body":"x"}', '{"id":null,"body":"x"}']) await alice.publishes('u/bob/msg', text)
  await alice.receivesNothing().then(
    () => t.fail('a bad id must be refused'),
    () => t.equal(alice.inbox.filter(({ body }) => (body.error as Json)?.code === 'invalid').length, 3, 'ids that are none'),
  )
  alice.inbox.length = 0
  t.match(await alice.isRefused('u/bob', { type: 'system', body: 'x' }, 'invalid'), /server/)
  await alice.isRefused('u/bob', Buffer.alloc(0), 'invalid')
  await alice.isRefused('u/bob', Buffer.from([0xff, 0xfe]), 'invalid')
  await bob.receivesNothing()
  t.equal((await alice.calls('history', { conv: 'u/bob' })).head, 1)
})

t.test('what speaks of an earlier message', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'mine')
  await bob.isRefused('u/alice', { type: 'edit', body: { seq: 1, body: 'not yours' } }, 'forbidden')
  await bob.isRefused('u/alice', { type: 'recall', body: { seq: 1 } }, 'forbidden')
  await bob.isRefused('u/alice', { type: 'recall', body: { seq: 2 } }, 'not_found')
  await bob.isRefused('u/alice', { type: 'reaction', body: { seq: 99, emoji: 'x', on: true } }, 'not_found')
  await bob.sends('u/alice', { type: 'reaction', body: { seq: 1, emoji: '👨‍👩‍👧‍👦', on: true } })
  await alice.sends('u/bob', { type: 'edit', body: { seq: 1, body: 'better' } })
  await alice.sends('u/bob', { type: 'recall', body: { seq: 1 } })
  await bob.receives({ seq: 1 })
  await bob.receives({ seq: 3, type: 'edit', body: { seq: 1, body: 'better' } })
  await bob.receives({ seq: 4, type: 'recall', body: { seq: 1 } })
  await alice.receives({ seq: 2, type: 'reaction' })
  t.end()
})

t.test('payloads that are not JSON objects are text', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const texts = [
    'hi',
    'grüße 😀',
    '[1,2]',
    '"quoted"',
    '42',
    'null',
    'true',
    '{not json',
    '{"id":"c1","body":"cut',
    ' ',
    '\u0000',
    'a\u0000b',
    '\ufeff',
  ]
  for (const text of texts) {
    const ack = await alice.sends('u/bob', Buffer.from(text))
    t.match(ack.id, /^.{1,64}$/, 'the server gives an id')
    await bob.receives({ type: 'text', body: text, id: ack.id })
  }
  await bob.receivesNothing()
})

t.test('text that could break something passes unchanged', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const texts = [
    '\u0000',
    'a\u0000b',
    '😀👨‍👩‍👧‍👦',
    '\u2028\u2029',
    '"\\',
    '\ud800',
    '\uffff',
    'x'.repeat(60_000),
    '__proto__',
    '漢'.repeat(20_000),
  ]
  for (const body of texts) {
    const meta = { [body.slice(0, 9)]: [body.slice(0, 9)], constructor: { x: 1 } }
    await alice.sends('u/bob', { body, meta })
    await bob.receives({ body, meta })
  }
  await s.restart()
  await bob.returns()
  const { messages } = await bob.calls<{ messages: Json[] }>('history', { conv: 'u/alice', limit: 4 })
  t.strictSame(
    messages.map(({ body }) => body),
    texts.slice(-messages.length),
  )
  const proto = Buffer.from('{"id":"p","body":"x","meta":{"__proto__":{"polluted":true}}}')
  await alice.returns()
  await alice.sends('u/bob', proto)
  t.equal(({} as Json).polluted, undefined)
  const deep = `{"id":"d","type":"x-deep","body":${'['.repeat(20_000)}${']'.repeat(20_000)}}`
  await alice.publishes('u/bob/msg', deep)
  await alice.sends('u/bob', 'still here')
})

t.test('ids may hold any character', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const ids = ['\u0000', 'a\u0000', 'a', '😀'.repeat(64), '"', '\\', '/', ' ', '\ud800', '\ud801', '\ufffd', 'constructor', '__proto__']
  for (const [at, id] of ids.entries()) t.equal((await alice.sends('u/bob', { id, body: `b${at}` })).seq, at + 1, JSON.stringify(id))
  await s.restart()
  await alice.returns()
  for (const [at, id] of ids.entries())
    t.match(await alice.sends('u/bob', { id, body: `b${at}` }), { seq: at + 1, dup: true }, `again: ${JSON.stringify(id)}`)
  t.equal((await alice.calls('history', { conv: 'u/bob' })).head, ids.length)
  await bob.receivesRun('u/alice', 1, ids.length)
  await bob.returns()
  await bob.receivesNothing()
})

t.test('a payload over the limit is refused by ack and closes nothing', async (t) => {
  const s = await stage(t, { payloadBytesMax: 1_000 })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const wrapped = (bytes: number): string => JSON.stringify({ id: 'big', body: 'x'.repeat(bytes - 22) })
  t.equal(Buffer.byteLength(wrapped(1_000)), 1_000)
  t.match(await alice.isRefused('u/bob', Buffer.alloc(1_001, 'x'), 'too_large'), /1000/)
  await alice.isRefused('u/bob', { id: 'named', body: 'x'.repeat(1_000) }, 'too_large')
  await alice.sends('u/bob', Buffer.from(wrapped(1_000)))
  await bob.receives({ seq: 1, id: 'big' })
  await bob.receivesNothing()
})

t.test('unknown peers, ids that are none, and topics that do not exist', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  await alice.isRefused('u/nobody', 'hi', 'not_found')
  await alice.isRefused('g/nothing', 'hi', 'not_found')
  for (const topic of [
    `u/${'b'.repeat(65)}/msg`,
    'u//msg',
    'u/bob',
    'u/bob/',
    'u/bob/msg/x',
    'u/b b/msg',
    'u/bob/ack',
    'u/alice/event',
    'rpc',
    'g',
    'u',
    'u/ü/msg',
  ])
    await alice.isDenied(topic, 'x', 'not_found')
  for (const topic of ['$SYS/x', '$share/a', 'free', '/', '/u/bob/msg']) await alice.isDenied(topic, 'x', 'forbidden')
  await s.admin('POST', '/users', { user: 'nobody' })
  t.equal((await alice.sends('u/nobody', 'now you exist')).seq, 1)
  const longest = 'b'.repeat(64)
  await s.admin('POST', '/users', { user: longest })
  await alice.sends(`u/${longest}`, 'hi')
  await alice.receivesNothing()
})

t.test('a retained chat message is refused', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.isDenied('u/bob/msg', '{"id":"r","body":"keep"}', 'invalid', true)
  await bob.receivesNothing()
  t.equal((await alice.calls('history', { conv: 'u/bob' })).head, 0)
})

t.test('QoS 0 and QoS 2 sends take the same way', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  t.equal((await alice.sends('u/bob', { id: 'q0', body: 'zero' }, 0)).seq, 1)
  t.equal((await alice.sends('u/bob', { id: 'q2', body: 'two' }, 2)).seq, 2)
  t.match(await alice.sends('u/bob', { id: 'q0', body: 'zero' }, 2), { seq: 1, dup: true })
  t.match(await alice.sends('u/bob', { id: 'q2', body: 'two' }, 0), { seq: 2, dup: true })
  await alice.isRefused('u/bob', { body: 1 }, 'invalid', 0)
  await alice.isRefused('u/bob', { body: 1 }, 'invalid', 2)
  await alice.isRefused('u/nobody', { body: 'x' }, 'not_found', 2)
  await bob.receives({ seq: 1, body: 'zero' })
  await bob.receives({ seq: 2, body: 'two' })
  await bob.receivesNothing()
})

t.test('many sends in flight keep their order', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const raw = await s.raw('alice', { clientId: 'burst' })
  const count = 300
  const send = (at: number) => publish({ topic: 'u/bob/msg', qos: 1, packetId: at, payload: `{"id":"n${at}","body":"${at}"}` })
  raw.send(...Array.from({ length: count }, (_, at) => send(at + 1)))
  for (let at = 1; at <= count; at++) {
    await raw.expect('puback', at)
    await bob.receives({ conv: 'u/alice', seq: at, body: String(at) })
    await alice.receives({ conv: 'u/bob', seq: at, body: String(at) })
  }
  const pubacks = raw.received.flatMap((packet) => (packet.cmd === 'puback' ? [packet.messageId] : []))
  t.strictSame(
    pubacks,
    Array.from({ length: count }, (_, at) => at + 1),
    'acknowledged in order of arrival [MQTT-4.6.0-2]',
  )
})

t.test('too many sends are refused by ack, with the time to wait', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 0.01, burst: 3 } })
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (const seq of [1, 2, 3]) {
    t.equal((await alice.sends('u/bob', `${seq}`)).seq, seq)
    await bob.receives({ seq })
  }
  await alice.publishes('u/bob/msg', '{"id":"c4","body":"too much"}')
  const { body } = await alice.takes('a refusal', ({ body }) => 'error' in body)
  const { error, ...rest } = body as { error: Json }
  t.strictSame(rest, { id: 'c4', topic: 'u/bob/msg' }, 'the client knows what to send again')
  t.equal(error.code, 'rate_limited')
  t.ok(Number(error.retry_after_ms) > 0)
  t.strictSame(bob.inbox, [])
})

t.test('calls over the rate are answered as calls, by whatever id, and as by HTTP', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 0.01, burst: 2 }, payloadBytesMax: 1_000 })
  const alice = await s.actor('alice')
  t.match(await alice.asks('profile.get', { user: 'x'.repeat(1_000) }, 'large'), { id: 'large', error: { code: 'too_large' } })
  await alice.calls('profile.get')
  for (const id of ['again', 7]) {
    const { error, ...rest } = await alice.asks('profile.get', {}, id)
    t.strictSame(rest, { id })
    t.match(error, { code: 'rate_limited', retry_after_ms: Number })
    const { status, body } = await s.http('POST', '/v1/rpc/profile.get', { token: await s.token('alice'), body: {} })
    t.match([status, body], [429, { error: { code: 'rate_limited', retry_after_ms: Number } }])
  }
  t.strictSame(alice.inbox, [], 'and by nothing else')
})
