/** HTTP: health, metrics, calls with tokens, the admin API, and which WebSockets are let in. */
import { once } from 'node:events'
import { request } from 'node:http'
import t from 'tap'
import { WebSocket } from 'ws'
import { type Json, type Stage, stage } from './helper/stage.js'

const codeOf = (body: Json): unknown => (body.error as Json | undefined)?.code

t.test('health and readiness', async (t) => {
  const s = await stage(t)
  t.match(await s.http('GET', '/healthz'), { status: 200, body: { status: 'ok' } })
  t.match(await s.http('GET', '/readyz'), { status: 200, body: { status: 'ready' } })
  const { httpPort } = s
  const closing = s.server.close()
  await closing
  await t.rejects(fetch(`http://127.0.0.1:${httpPort}/healthz`), 'nobody listens any more')
  await s.restart()
  t.equal((await s.http('GET', '/readyz')).status, 200)
})

t.test('metrics', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('bob', { device: 'web', transport: 'ws', clean: false })
  await alice.sends('u/bob', { id: 'c1', body: 'one' })
  await alice.sends('u/bob', { id: 'c1', body: 'one' })
  await alice.isRefused('u/bob', { id: 'c1', body: 'two' }, 'conflict')
  await alice.isRefused('u/nobody', 'x', 'not_found')
  await bob.receives({ seq: 1 })
  await web.receives({ seq: 1 })
  await web.leaves()
  await alice.sends('u/bob', 'two')
  await web.returns()
  const { headers, text } = await fetch(`http://127.0.0.1:${s.httpPort}/metrics`).then(async (response) => ({
    headers: response.headers,
    text: await response.text(),
  }))
  t.match(headers.get('content-type'), /^text\/plain/)
  for (const line of text.split('\n')) if (line !== '') t.match(line, /^(# (HELP|TYPE) |[a-z0-9_]+(\{.*\})? [-+0-9.eNaInf]+$)/)
  const metric = (name: string): Promise<number> => s.metric(name)
  t.equal(await metric('parley_sends_total{result="stored"}'), 2)
  t.ok((await metric('parley_sends_total{result="duplicate"}')) >= 1)
  t.ok((await metric('parley_sends_total{result="refused"}')) >= 1)
  t.equal(await metric('parley_sends_total{result="failed"}'), 0)
  t.equal(await metric('parley_sessions'), 3)
  t.equal(await metric('parley_sessions_behind'), 0)
  t.equal(await metric('parley_replayed_total'), 1)
  t.equal(await metric('parley_connections{transport="tcp"}'), 2)
  t.equal(await metric('parley_connections{transport="ws"}'), 1)
  t.ok((await metric('parley_append_seconds_count')) >= 2)
  t.ok((await metric('parley_delivery_seconds_count')) >= 2)
  t.ok((await metric('parley_nodejs_eventloop_lag_seconds')) >= 0)
})

t.test('a call needs a token', async (t) => {
  const s = await stage(t)
  const token = await s.token('alice')
  const call = (headers: Record<string, string>) => s.http('POST', '/v1/rpc/conversations', { body: {}, headers })
  t.equal((await call({ authorization: `Bearer ${token}` })).status, 200)
  t.equal((await call({ authorization: `bearer ${token}` })).status, 200, 'the scheme is not case-sensitive')
  for (const authorization of [
    '',
    'Bearer',
    'Bearer ',
    'Bearer nonsense',
    `Basic ${token}`,
    token,
    `Bearer ${token}x`,
    `Bearer ${'x'.repeat(9_000)}`,
  ]) {
    const { status, body } = await call(authorization === '' ? {} : { authorization })
    t.ok([401, 403].includes(status), `${authorization.slice(0, 20)} → ${status}`)
    t.equal(codeOf(body), 'forbidden')
  }
  const expired = await s.http('POST', '/v1/rpc/conversations', { token: await s.token('alice', { expiresInSeconds: -60 }), body: {} })
  t.ok([401, 403].includes(expired.status))
  const nobody = await s.http('POST', '/v1/rpc/conversations', { token: await s.adminToken(), body: {} })
  t.match(nobody, { status: 403, body: { error: { code: 'forbidden' } } }, 'an admin token without a user speaks for nobody')
})

t.test('bodies and paths that are none', async (t) => {
  const s = await stage(t)
  const token = await s.token('alice')
  for (const text of ['{', 'x', '[]', '"x"', '1', '{"__proto__":{"x":1}}'])
    t.match(await s.http('POST', '/v1/rpc/conversations', { token, text }), { status: 400, body: { error: { code: 'invalid' } } }, text)
  t.match(await s.http('POST', '/v1/rpc/conversations', { token }), { status: 200 }, 'no body is no params')
  t.match(await s.http('POST', '/v1/rpc/conversations', { token, text: `{"x":"${'x'.repeat(300_000)}"}` }), {
    status: 413,
    body: { error: { code: 'too_large' } },
  })
  const plain = await s.http('POST', '/v1/rpc/conversations', { token, text: '{}', headers: { 'content-type': 'text/html' } })
  t.equal(plain.status, 200, 'JSON is JSON, whatever the client calls it')
  for (const [method, path] of [
    ['GET', '/v1/rpc/conversations'],
    ['POST', '/v1/rpc/'],
    ['POST', '/v1/nothing'],
    ['GET', '/../package.json'],
    ['GET', '/v1/admin/users'],
    ['GET', '/%2e%2e/package.json'],
  ] as const)
    t.match(await s.http(method, path, { token }), { status: 404, body: { error: { code: 'not_found' } } }, `${method} ${path}`)
})

t.test('the admin API is for admins', async (t) => {
  const s = await stage(t)
  await s.actor('bob')
  const calls = [
    ['POST', '/users', { user: 'x' }],
    ['POST', '/groups', { owner: 'bob' }],
    ['POST', '/groups/team/members', { users: ['bob'] }],
    ['DELETE', '/groups/team/members', { users: ['bob'] }],
    ['POST', '/tokens', { user: 'bob' }],
    ['DELETE', '/users/bob/sessions', {}],
    ['DELETE', '/users/bob', {}],
  ] as const
  for (const [method, path, body] of calls) {
    const asUser = await s.http(method, `/v1/admin${path}`, { token: await s.token('bob'), body })
    t.match(asUser, { status: 403, body: { error: { code: 'forbidden' } } }, `${method} ${path} as a user`)
    const asOther = await s.http(method, `/v1/admin${path}`, { token: await s.token('bob', { scope: 'administrator reader' }), body })
    t.equal(asOther.status, 403)
    t.ok([401, 403].includes((await s.http(method, `/v1/admin${path}`, { body })).status))
    const wrong = await s.http(method, `/v1/admin${path}`, { token: await s.adminToken(), body: { ...body, unknown: 1 } })
    t.match(wrong, { status: 400, body: { error: { code: 'invalid' } } }, `${method} ${path} with an unknown field`)
  }
})

t.test('users, groups, members and tokens by the admin API', async (t) => {
  const s: Stage = await stage(t)
  t.strictSame(await s.admin('POST', '/users', { user: 'alice' }), { users: ['alice'] })
  t.strictSame(await s.admin('POST', '/users', { users: ['alice', 'bob'] }), { users: ['alice', 'bob'] })
  const refused = async (method: string, path: string, body: unknown, status: number) =>
    t.equal(
      (await s.http(method, `/v1/admin${path}`, { token: await s.adminToken(), body })).status,
      status,
      `${path} ${JSON.stringify(body)}`,
    )
  for (const body of [
    {},
    { user: 'a b' },
    { user: '' },
    { user: 'x'.repeat(65) },
    { users: [] },
    { users: 'bob' },
    { user: 'a', users: ['b'] },
    [],
  ])
    await refused('POST', '/users', body, 400)
  t.match(await s.admin('POST', '/groups', { owner: 'alice', group: 'team', members: ['bob'] }), { group: 'team' })
  await refused('POST', '/groups', { owner: 'alice', group: 'team' }, 409)
  await refused('POST', '/groups', { owner: 'nobody' }, 404)
  await refused('POST', '/groups', { owner: 'alice', members: ['nobody'] }, 404)
  await refused('POST', '/groups', { group: 'x' }, 400)
  await refused('POST', '/groups/nothing/members', { users: ['bob'] }, 404)
  await refused('POST', '/groups/team/members', { users: ['nobody'] }, 404)
  await refused('POST', '/groups/a%20b/members', { users: ['bob'] }, 400)
  await refused('DELETE', '/groups/nothing/members', { users: ['bob'] }, 404)
  const { token, user, expires_ts } = await s.admin('POST', '/tokens', { user: 'carol', ttl_seconds: 60 })
  t.equal(user, 'carol')
  t.ok(Number(expires_ts) > Date.now() && Number(expires_ts) <= Date.now() + 60_000)
  const carol = await s.actor('carol', { token: token as string })
  t.equal((await carol.sends('u/alice', 'hi')).seq, 1)
  const minted = await s.http('POST', '/v1/admin/users', { token: token as string, body: { user: 'x' } })
  t.equal(minted.status, 403, 'a token that was handed out is no admin')
  for (const body of [{}, { user: 'a b' }, { user: 'a', ttl_seconds: 0 }, { user: 'a', ttl_seconds: 1e9 }, { user: 'a', scope: 'admin' }])
    await refused('POST', '/tokens', body, 400)
})

interface Handshake {
  path?: string
  subprotocols?: string[]
  headers?: Record<string, string>
}

/** 101, or the status with which the upgrade was refused. */
async function upgrade(s: Stage, { path = '/mqtt', subprotocols = ['mqtt'], headers = {} }: Handshake = {}): Promise<number> {
  const socket = new WebSocket(`ws://127.0.0.1:${s.httpPort}${path}`, subprotocols, { headers })
  socket.on('error', () => undefined)
  return new Promise((resolve) => {
    socket.once('open', () => {
      socket.terminate()
      resolve(101)
    })
    socket.once('unexpected-response', (_request, response) => {
      response.destroy()
      resolve(response.statusCode ?? 0)
    })
  })
}

t.test('which WebSockets are let in', async (t) => {
  const s = await stage(t, { allowedOrigins: ['https://chat.example.org'] })
  t.equal(await upgrade(s), 101, 'programs send no Origin')
  t.equal(await upgrade(s, { headers: { origin: `http://127.0.0.1:${s.httpPort}` } }), 101, 'the own page')
  t.equal(await upgrade(s, { headers: { origin: 'https://chat.example.org' } }), 101)
  for (const origin of [
    'https://evil.example',
    'http://127.0.0.1:1',
    'null',
    'https://chat.example.org.evil.example',
    'http://chat.example.org',
    'x',
  ])
    t.equal(await upgrade(s, { headers: { origin } }), 403, origin)
  for (const path of ['/', '/mqtt/', '/ws', '/mqttx']) t.equal(await upgrade(s, { path }), 404, path)
  t.equal(await upgrade(s, { path: '/mqtt?x=1' }), 101)
  t.equal(await upgrade(s, { subprotocols: ['chat'] }), 400)
  t.equal(await upgrade(s, { subprotocols: [] }), 400)
  t.equal(await upgrade(s, { subprotocols: ['chat', 'mqtt'] }), 101)
})

t.test('the chat page and its headers', async (t) => {
  const s = await stage(t)
  const get = request({ port: s.httpPort, host: '127.0.0.1', path: '/mqtt.js' })
  get.end()
  const [response] = await once(get, 'response')
  t.equal(response.statusCode, 200)
  response.destroy()
  t.match(await s.http('GET', '/secret.key'), { status: 404 })
})

t.test('a first call by HTTP makes a user known: others can write to him', async (t) => {
  const s = await stage(t)
  const bob = await s.actor('bob')
  await bob.isRefused('u/alice', 'hi', 'not_found')
  const call = async (method: string, body: object) => s.http('POST', `/v1/rpc/${method}`, { token: await s.token('alice'), body })
  t.match(await call('friends.add', { user: 'bob' }), { status: 200, body: { state: 'requested' } })
  t.match(await call('profile.get', {}), { status: 200, body: { user: 'alice' } })
  t.match(await call('group.create', { group: 'team', members: ['bob'] }), { status: 200 })
  await bob.sends('u/alice', 'hi')
  t.equal((await s.http('POST', '/v1/rpc/profile.get', { token: 'nonsense' })).status, 401)
  await bob.callsInVain('profile.get', { user: 'nonsense' }, 'not_found')
})
