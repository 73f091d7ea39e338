/** Methods: how they are called and refused, over MQTT and HTTP alike; history, sync, conversations and read positions. */
import assert from 'node:assert/strict'
import t, { type Test } from 'tap'
import { type ErrorCode, errorCodes } from '../broker/index.js'
import { eventually } from './helper/eventually.js'
import { publish } from './helper/packets.js'
import { type Actor, type Json, type Stage, stage } from './helper/stage.js'

const huge = Number.MAX_SAFE_INTEGER

/** The same call over MQTT and HTTP must end with the same refusal. */
async function refusedByBoth(t: Test, s: Stage, actor: Actor, method: string, params: Json, code: ErrorCode): Promise<void> {
  await actor.callsInVain(method, params, code)
  const { status, body } = await s.http('POST', `/v1/rpc/${method}`, { token: await s.token(actor.user), body: params })
  t.match(
    { status, body },
    { status: errorCodes[code].http, body: { error: { code, message: /\S/ } } },
    `${method} ${JSON.stringify(params)}`,
  )
  t.strictSame(Object.keys(body), ['error'])
}

/** The same result by both ways. */
async function byBoth(s: Stage, actor: Actor, method: string, params?: Json): Promise<Json> {
  const result = await actor.calls(method, params)
  const { status, body } = await s.http('POST', `/v1/rpc/${method}`, { token: await s.token(actor.user), ...(params && { body: params }) })
  assert.deepEqual({ status, body }, { status: 200, body: result })
  return result
}

const seqs = (result: Json): unknown[] => (result.messages as Json[]).map(({ seq }) => seq)
const run = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

t.test('the reply goes to the session that asked, with its id', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('alice', { device: 'web' })
  for (const id of ['7', '', 'ü', 7, 0, -1.5, 'x'.repeat(128)]) {
    const reply = await alice.asks('conversations', {}, id)
    t.strictSame(reply, { id, result: { conversations: [] } }, JSON.stringify(id))
  }
  await alice.publishes('rpc/conversations', '')
  t.strictSame((await alice.takes('a reply without id', ({ topic }) => topic === 'u/alice/rpc')).body, { result: { conversations: [] } })
  await alice.publishes('rpc/conversations', '{}', 0)
  await alice.takes('a reply to QoS 0', ({ topic }) => topic === 'u/alice/rpc')
  for (const actor of [alice, web, bob]) await actor.receivesNothing()
})

t.test('calls that are none', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const reply = async (payload: string | Buffer): Promise<Json> => {
    await alice.publishes('rpc/conversations', payload)
    return (await alice.takes('a reply', ({ topic }) => topic === 'u/alice/rpc')).body
  }
  for (const payload of ['not json', '{', '[]', '"x"', '1', 'null', Buffer.from([0xff])])
    t.match(await reply(payload), { id: undefined, error: { code: 'invalid', message: /\S/ } }, String(payload))
  for (const call of [{ params: [] }, { params: 'x' }, { params: 1 }, { extra: 1 }, { method: 'history' }])
    t.match(await reply(JSON.stringify({ id: '7', ...call })), { id: '7', error: { code: 'invalid' } }, JSON.stringify(call))
  for (const id of [{}, [], true, null, 'x'.repeat(129)])
    t.match(await reply(JSON.stringify({ id })), { error: { code: 'invalid' } }, JSON.stringify(id))
  for (const method of ['nothing', 'group.nothing', 'constructor', 'to_string', '.', '_'])
    await refusedByBoth(t, s, alice, method, {}, 'not_found')
  for (const topic of ['rpc/UPPER', 'rpc/', 'rpc/a/b', 'rpc/x-y']) await alice.isDenied(topic, '{"id":"7"}', 'not_found')
  t.equal((await s.http('POST', '/v1/rpc/__proto__', { token: await s.token('alice'), body: {} })).status, 404)
  await alice.receivesNothing()
})

t.test('every method refuses bad params, by MQTT and by HTTP', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bad: Record<string, Json[]> = {
    history: [{}, { conv: 'bob' }, { conv: 'u/' }, { conv: 'u/a b' }, { conv: 'x/bob' }, { conv: 1 }, { conv: 'u/alice/bob' }],
    sync: [
      { cursors: [] },
      { cursors: { bob: 1 } },
      { cursors: { 'u/bob': -1 } },
      { cursors: { 'u/bob': '1' } },
      { limit: 0 },
      { limit: '1' },
    ],
    conversations: [
      { limit: 0 },
      { limit: 1.5 },
      { limit: -1 },
      { limit: '1' },
      { cursor: 1 },
      { cursor: 'x' },
      { cursor: 'x'.repeat(513) },
      { cursor: 'bnVsbA' },
    ],
  }
  for (const extra of [
    { limit: 0 },
    { limit: 201 },
    { limit: 1.5 },
    { limit: '1' },
    { before: -1 },
    { after: -1 },
    { before: '1' },
    { after: 1.5 },
    { before: 1, after: 1 },
  ])
    bad.history?.push({ conv: 'u/alice', ...extra })
  for (const [method, list] of Object.entries(bad))
    for (const params of [...list, { unknown: 1 }]) await refusedByBoth(t, s, alice, method, params, 'invalid')
  await refusedByBoth(t, s, alice, 'history', { conv: 'u/nobody' }, 'not_found')
  await refusedByBoth(t, s, alice, 'history', { conv: 'g/nothing' }, 'not_found')
  await refusedByBoth(t, s, alice, 'group.get', { group: 'nothing' }, 'not_found')
  await alice.calls('group.create', { group: 'team' })
  await refusedByBoth(t, s, alice, 'group.create', { group: 'team' }, 'conflict')
  const bob = await s.actor('bob')
  await refusedByBoth(t, s, bob, 'group.get', { group: 'team' }, 'forbidden')
  await refusedByBoth(t, s, bob, 'history', { conv: 'g/team' }, 'forbidden')
})

t.test('history by pages', async (t) => {
  const s = await stage(t)
  const [alice, bob, eve] = await s.cast(['alice', 'bob', 'eve'])
  t.strictSame(await byBoth(s, alice, 'history', { conv: 'u/bob' }), { messages: [], head: 0 })
  const count = 230
  for (let at = 1; at <= count; at++) void alice.publishes('u/bob/msg', JSON.stringify({ id: `c${at}`, body: `${at}` }))
  await bob.receivesRun('u/alice', 1, count)
  const page = async (params: Json): Promise<unknown[]> => {
    const result = await byBoth(s, bob, 'history', { conv: 'u/alice', ...params })
    t.equal(result.head, count)
    return seqs(result)
  }
  t.strictSame(await page({}), run(181, 230), '50, the newest, ascending')
  t.strictSame(await page({ limit: 1 }), [230])
  t.strictSame(await page({ limit: 200 }), run(31, 230))
  t.strictSame(await page({ before: 31, limit: 200 }), run(1, 30))
  t.strictSame(await page({ before: 1 }), [])
  t.strictSame(await page({ before: 0 }), [])
  t.strictSame(await page({ before: 2 }), [1])
  t.strictSame(await page({ before: huge, limit: 2 }), [229, 230])
  t.strictSame(await page({ after: 0, limit: 3 }), [1, 2, 3])
  t.strictSame(await page({ after: 228 }), [229, 230])
  t.strictSame(await page({ after: 230 }), [])
  t.strictSame(await page({ after: huge }), [])
  const { messages } = await bob.calls<{ messages: Json[] }>('history', { conv: 'u/alice', after: 6, limit: 1 })
  t.match(messages, [{ seq: 7, from: 'alice', to: 'bob', id: 'c7', type: 'text', body: '7' }])
  t.strictSame(seqs(await eve.calls('history', { conv: 'u/alice' })), [], 'their conversation is not hers')
  alice.inbox.length = 0
})

t.test('history of large messages: every page has one at least, together they have all', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (let at = 1; at <= 12; at++) await alice.sends('u/bob', { body: String(at).padEnd(60_000, 'x') })
  const backwards: unknown[] = []
  for (let before = huge; before > 1; before = backwards[0] as number) {
    const found = seqs(await bob.calls('history', { conv: 'u/alice', before, limit: 200 }))
    assert(found.length > 0)
    backwards.unshift(...found)
  }
  t.strictSame(backwards, run(1, 12))
  const forwards: unknown[] = []
  while (forwards.length < 12) {
    const found = seqs(await bob.calls('history', { conv: 'u/alice', after: forwards.length, limit: 200 }))
    assert(found.length > 0)
    forwards.push(...found)
  }
  t.strictSame(forwards, run(1, 12))
})

/** Everything that sync gives, page by page, as `conv seq`. */
async function syncAll(actor: Actor, limit: number, start: Record<string, number> = {}): Promise<{ found: string[]; pages: number }> {
  const cursors = { ...start }
  const found: string[] = []
  for (let pages = 1; ; pages++) {
    const { messages, heads, more } = await actor.calls<{ messages: Json[]; heads: Record<string, number>; more: boolean }>('sync', {
      cursors,
      limit,
    })
    assert(messages.length <= limit)
    assert(messages.length > 0 || !more, 'a page that is not the last has something')
    for (const { conv, seq } of messages) {
      assert.equal(seq, (cursors[conv as string] ?? 0) + 1, 'in order, without gaps')
      cursors[conv as string] = seq as number
      found.push(`${conv} ${seq}`)
    }
    if (more) continue
    for (const [conv, head] of Object.entries(heads)) assert.equal(cursors[conv] ?? 0, head, `${conv} ends at its head`)
    return { found, pages }
  }
}

t.test('sync, page by page, gives everything exactly once', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  t.strictSame(await byBoth(s, alice, 'sync', {}), { messages: [], heads: {}, more: false })
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  const wanted = ['g/team 1']
  for (let at = 1; at <= 10; at++) {
    wanted.push(`u/bob ${(await alice.sends('u/bob', `${at}`)).seq}`, `g/team ${(await bob.sends('g/team', `${at}`)).seq}`)
    if (at <= 3) wanted.push(`u/carol ${(await carol.sends('u/alice', `${at}`)).seq}`)
  }
  for (const limit of [1, 2, 7, 24, 1000]) {
    const { found, pages } = await syncAll(alice, limit)
    t.strictSame(found.sort(), [...wanted].sort(), `${pages} pages of ${limit}`)
  }
  const cursors = { 'u/bob': 9, 'g/team': 11, 'u/carol': 2, 'u/unknown': 5 }
  t.strictSame((await syncAll(alice, 1, cursors)).found.sort(), ['u/bob 10', 'u/carol 3'])
  t.strictSame((await byBoth(s, alice, 'sync', { cursors: { 'u/bob': huge, 'g/team': 11, 'u/carol': 3 } })).messages, [])
  const { messages } = await alice.calls<{ messages: Json[] }>('sync', { cursors: { ...cursors, 'u/carol': 3 } })
  t.match(messages, [{ conv: 'u/bob', seq: 10, from: 'alice', to: 'bob', type: 'text', body: '10' }])
  for (let at = 0; at < 8; at++) await carol.sends('u/bob', { body: 'x'.repeat(60_000) })
  t.strictSame(
    (await syncAll(bob, 1000, { 'u/alice': 10, 'g/team': 11 })).found,
    run(1, 8).map((seq) => `u/carol ${seq}`),
    'also when they are large',
  )
})

t.test('sync goes over all conversations, however many', async (t) => {
  const s = await stage(t)
  const count = 1_100
  const users = run(1, count).map((at) => `user${at}`)
  await s.admin('POST', '/users', { users })
  const raw = await s.raw('alice')
  for (let first = 0; first < count; first += 100) {
    raw.send(
      ...users
        .slice(first, first + 100)
        .map((user, at) => publish({ topic: `u/${user}/msg`, qos: 1, packetId: first + at + 1, payload: 'hi' })),
    )
    for (let at = first; at < first + 100; at++) await raw.expect('puback', at + 1)
  }
  const alice = await s.actor('alice', { device: 'other' })
  const { found } = await syncAll(alice, 500)
  t.equal(new Set(found).size, count)
  const listed: unknown[] = []
  for (let cursor: string | undefined; ; ) {
    const page = await alice.calls<{ conversations: Json[]; next?: string }>('conversations', {
      limit: 200,
      ...(cursor === undefined ? {} : { cursor }),
    })
    listed.push(...page.conversations.map(({ conv }) => conv))
    cursor = page.next
    if (cursor === undefined) break
  }
  t.equal(new Set(listed).size, count)
  t.equal(listed.length, count)
})

const rowOf = async (actor: Actor, conv: string): Promise<Json | undefined> =>
  (await actor.calls<{ conversations: Json[] }>('conversations')).conversations.find((row) => row.conv === conv)

t.test('conversations: newest first, by pages', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, dave] = await s.cast(['alice', 'bob', 'carol', 'dave'])
  t.strictSame(await byBoth(s, alice, 'conversations'), { conversations: [] })
  await alice.calls('group.create', { group: 'team', members: ['dave'] })
  for (const [actor, conv, body] of [
    [bob, 'u/alice', 'one'],
    [carol, 'u/alice', 'two'],
    [alice, 'u/dave', 'three'],
    [dave, 'g/team', 'four'],
  ] as const) {
    await actor.sends(conv, body)
    await s.clockMoves()
  }
  const all = ['g/team', 'u/dave', 'u/carol', 'u/bob']
  const list = async (params: Json) => (await byBoth(s, alice, 'conversations', params)) as { conversations: Json[]; next?: string }
  // Else what is delivered moves between two calls that must answer the same.
  await eventually(async () => (await rowOf(alice, 'u/dave'))?.delivered === 1)
  const whole = await list({})
  t.strictSame(
    whole.conversations.map(({ conv }) => conv),
    all,
  )
  t.equal(whole.next, undefined)
  t.match(whole.conversations[0], { conv: 'g/team', head: 2, unread: 1, last: { seq: 2, from: 'dave', group: 'team', body: 'four' } })
  t.match(whole.conversations[1], {
    conv: 'u/dave',
    head: 1,
    unread: 0,
    last: { seq: 1, from: 'alice', to: 'dave' },
    read: 0,
    delivered: Number,
  })
  for (const limit of [1, 2, 3]) {
    const found: unknown[] = []
    let cursor: string | undefined
    do {
      const page = await list({ limit, ...(cursor === undefined ? {} : { cursor }) })
      t.ok(page.conversations.length <= limit)
      found.push(...page.conversations.map(({ conv }) => conv))
      cursor = page.next
    } while (cursor !== undefined)
    t.strictSame(found, all, `pages of ${limit}`)
  }
  const exact = await list({ limit: 4 })
  t.equal(exact.next, undefined, 'no next page where there is none')
})

t.test('unread: own messages never count, a read position moves forwards only and is shown to other devices', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const phone = await s.actor('bob', { device: 'phone' })
  const web = await s.actor('bob', { device: 'web' })
  for (let at = 1; at <= 5; at++) await alice.sends('u/bob', `${at}`)
  await phone.receivesRun('u/alice', 1, 5)
  await web.receivesRun('u/alice', 1, 5)
  t.match(await rowOf(phone, 'u/alice'), { head: 5, unread: 5 })
  t.match(await rowOf(alice, 'u/bob'), { head: 5, unread: 0, read: 0 })
  await phone.reads('u/alice', 3)
  await web.hears({ type: 'read', conv: 'u/alice', seq: 3 })
  t.match(await rowOf(web, 'u/alice'), { head: 5, unread: 2 })
  t.match(await rowOf(alice, 'u/bob'), { read: 3 })
  await web.reads('u/alice', 1)
  await phone.reads('u/alice', 3)
  t.match(await rowOf(phone, 'u/alice'), { unread: 2 }, 'not backwards')
  await phone.receivesNothing()
  await web.receivesNothing()
  for (const payload of [
    '',
    'x',
    '3',
    '{}',
    '{"seq":0}',
    '{"seq":-1}',
    '{"seq":"3"}',
    '{"seq":1.5}',
    '{"seq":4,"x":1}',
    '{"seq":6}',
    `{"seq":${huge}}`,
  ])
    await phone.isDenied('u/alice/read', payload, 'invalid')
  await phone.isDenied('u/stranger/read', '{"seq":1}', 'not_found')
  await phone.isDenied('g/nothing/read', '{"seq":1}', 'not_found')
  await web.sends('u/alice', 'answer')
  await phone.receives({ seq: 6 })
  t.match(await rowOf(phone, 'u/alice'), { head: 6, unread: 0 }, 'who answers has read')
  await alice.sends('u/bob', 'again')
  t.match(await rowOf(phone, 'u/alice'), { head: 7, unread: 1 })
  t.match(await rowOf(alice, 'u/bob'), { head: 7, unread: 0 })
  await phone.receives({ seq: 7 })
  await web.receives({ seq: 7 })
  await s.restart()
  await phone.returns()
  t.match(await rowOf(phone, 'u/alice'), { head: 7, unread: 1 }, 'also after a restart')
})

t.test('several read positions in one write', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bob = await s.actor('bob')
  for (let at = 1; at <= 9; at++) await alice.sends('u/bob', `${at}`)
  await bob.receivesRun('u/alice', 1, 9)
  const raw = await s.raw('bob')
  const read = (packetId: number, seq: number) => publish({ topic: 'u/alice/read', qos: 1, packetId, payload: JSON.stringify({ seq }) })
  raw.send(read(1, 4), read(2, 8), read(3, 6))
  for (const packetId of [1, 2, 3]) await raw.expect('puback', packetId)
  t.match(await rowOf(bob, 'u/alice'), { unread: 1 })
  const told = bob.inbox.splice(0).map(({ body }) => body.seq as number)
  t.strictSame([told.at(-1), told], [8, [...told].sort()], 'never backwards')
})

t.test('unread of a group counts from the join', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.calls('group.create', { group: 'team' })
  for (let at = 0; at < 5; at++) await alice.sends('g/team', `${at}`)
  await alice.calls('group.add', { group: 'team', users: ['bob'] })
  t.match(await rowOf(bob, 'g/team'), { head: 7, unread: 0 })
  await alice.sends('g/team', 'hello bob')
  await alice.sends('g/team', 'hello?')
  t.match(await rowOf(bob, 'g/team'), { head: 9, unread: 2 })
  t.match(await rowOf(alice, 'g/team'), { head: 9, unread: 0 })
  await bob.reads('g/team', 8)
  t.match(await rowOf(bob, 'g/team'), { unread: 1 })
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
  await alice.sends('g/team', 'without bob')
  t.match(await rowOf(bob, 'g/team'), { head: 10, unread: 2 }, 'the removal is the last that counts')
})
