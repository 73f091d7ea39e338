/** Hostile input on the HTTP port: garbage, bodies and headers over their limits, WebSockets cut into tiny frames. Others are served. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from 'tap'
import { createRandom, newSeed } from '../contract/entries.js'
import { publish } from '../helper/packets.js'
import { connectRaw } from '../helper/raw-client.js'
import { peakRssBytes, type ServerProcess, startServer, tokenOf } from '../helper/server-process.js'

const megabyte = 1_048_576
t.setTimeout(90_000)

/** Sends the bytes, and resolves with all that came back when the server has closed. */
function exchange(port: number, ...chunks: Buffer[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTcp({ port, host: '127.0.0.1' })
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => resolve(answer))
    for (const chunk of chunks) socket.write(chunk)
  })
}

async function serve(server: ServerProcess): Promise<void> {
  const password = await tokenOf('ann')
  const client = await connectRaw({ port: server.httpPort, transport: 'ws', clientId: 'tab', username: 'ann', password })
  await client.publish('u/ann/msg', 'to myself', { qos: 1 })
  await client.disconnect()
}

t.test('garbage', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const server = await startServer(t)
  for (let round = 0; round < 30; round++) {
    const garbage = Buffer.from(Array.from({ length: 1 + random(4_000) }, () => random(256)))
    const start = [
      Buffer.alloc(0),
      Buffer.from('GET /mqtt HTTP/1.1\r\n'),
      Buffer.from('POST /v1/rpc/history HTTP/1.1\r\nContent-Length: 10\r\n'),
    ]
    await exchange(server.httpPort, start[random(3)] as Buffer, garbage, Buffer.from('\r\n\r\n\r\n'))
  }
  t.match(await exchange(server.httpPort, Buffer.from('GET / HTTP/9.9\r\n\r\n')), /^HTTP\/1.1 400/)
  await serve(server)
})

t.test('whatever is wrong is said in the form of every error', async (t) => {
  const server = await startServer(t)
  const ask = async (head: string, body: Buffer = Buffer.alloc(0)): Promise<{ status: number; body: unknown }> => {
    const length = body.length === 0 ? '' : `Content-Length: ${body.length}\r\n`
    const answer = await exchange(server.httpPort, Buffer.from(`${head}\r\n${length}Connection: close\r\n\r\n`), body)
    const [top = '', json = ''] = answer.split('\r\n\r\n')
    return { status: Number(top.split(' ')[1]), body: JSON.parse(Buffer.from(json, 'latin1').toString()) }
  }
  const invalid = (message: RegExp) => ({ error: { code: 'invalid', message } })
  t.match(await ask('GET /%zz HTTP/1.1\r\nHost: x'), { status: 400, body: invalid(/not a valid url component/) })
  t.match(await ask('GET / HTTP/9.9\r\nHost: x'), { status: 400, body: invalid(/no HTTP request/) })
  t.match(await ask(`GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}`), { status: 431, body: invalid(/headers .* too large/) })
  for (const path of ['/../../package.json', '/%2e%2e/%2e%2e/package.json', '/..\\..\\package.json', '/..%2f..%2fpackage.json']) {
    t.match(await ask(`GET ${path} HTTP/1.1\r\nHost: x`), { status: 404, body: { error: { code: 'not_found' } } }, path)
  }
  const call = `POST /v1/rpc/profile.update HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${await tokenOf('ann')}`
  const notUtf8 = Buffer.from('{"name":"\xff\xfe"}', 'latin1')
  t.match(await ask(call, notUtf8), { status: 400, body: invalid(/not UTF-8/) })
  t.match(await ask(call, Buffer.from('{"name":"Ann Ö"}')), { status: 200, body: { name: 'Ann Ö' } })
})

t.test('a body that is sent for ever behind a bad token is not waited for', async (t) => {
  const server = await startServer(t)
  const head = (path: string, token: string): Buffer =>
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: 1000\r\n\r\n{`)
  for (const path of ['/v1/rpc/history', '/v1/admin/users']) {
    const startedMs = performance.now()
    const answer = await exchange(server.httpPort, head(path, 'x.y.z'))
    t.match(answer, /^HTTP\/1.1 401 /)
    t.match(answer, /connection: close/i)
    t.ok(performance.now() - startedMs < 20_000, 'the bound of a body is 30 s')
  }
  await serve(server)
})

t.test('sizes over the limits', async (t) => {
  const server = await startServer(t)
  await serve(server)
  const before = server.rssBytes()
  const headers = { authorization: `Bearer ${await tokenOf('ann')}`, 'content-type': 'application/json' }
  const post = (body: string, more: Record<string, string> = {}) =>
    fetch(`http://127.0.0.1:${server.httpPort}/v1/rpc/history`, { method: 'POST', headers: { ...headers, ...more }, body })
  const peak = await peakRssBytes(server, async () => {
    const large = JSON.stringify({ conv: 'x'.repeat(megabyte) })
    for (let i = 0; i < 10; i++) {
      const answer = await post(large)
      t.equal(answer.status, 413)
      t.match(await answer.json(), { error: { code: 'too_large' } })
    }
  })
  t.ok(peak - before < 100 * megabyte, `it grew by ${Math.round((peak - before) / megabyte)} MB`)
  const many = Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${'a: b\r\n'.repeat(20_000)}\r\n`)
  t.match(await exchange(server.httpPort, many), /^HTTP\/1.1 431/)
  t.equal((await post('{"conv":')).status, 400)
  t.equal((await post('[]'.repeat(3))).status, 400)
  t.equal((await post(`${'['.repeat(50_000)}`)).status, 400)
  t.equal((await post('{"__proto__":{"x":1}}')).status, 400)
  t.equal((await post('{}', { authorization: `Bearer ${'x'.repeat(9_000)}` })).status, 401)
  await serve(server)
})

t.test('a refused upgrade is closed, also when the client keeps its end open, and does not hold the server up', async (t) => {
  const server = await startServer(t)
  const refused = [
    'GET /nowhere HTTP/1.1',
    'GET /mqtt HTTP/1.1\r\nSec-WebSocket-Protocol: other',
    'GET /mqtt HTTP/1.1\r\nOrigin: http://evil.example',
  ]
  const sockets = refused.map((head) => {
    const socket = connectTcp({ port: server.httpPort, host: '127.0.0.1', allowHalfOpen: true })
    t.teardown(() => socket.destroy())
    socket.write(`${head}\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`)
    return socket
  })
  for (const socket of sockets) t.match(String(await once(socket, 'data')), /^HTTP\/1.1 4\d\d/)
  const startedMs = performance.now()
  t.same(await server.stop(), { code: 0, signal: null })
  t.ok(performance.now() - startedMs < 5_000)
})

t.test('WebSocket frames of one byte', async (t) => {
  const server = await startServer(t)
  const password = await tokenOf('ann')
  const client = await connectRaw({ port: server.httpPort, transport: 'ws', clientId: 'flood', username: 'ann', password })
  const body = 'x'.repeat(60_000)
  for (let i = 1; i <= 4; i++) {
    const packet = publish({ topic: 'u/ann/msg', payload: JSON.stringify({ id: `m${i}`, body }), qos: 1, packetId: i })
    for (let at = 0; at < packet.length; at++) client.webSocket?.send(packet.subarray(at, at + 1))
  }
  const startedMs = performance.now()
  await serve(server)
  t.comment(`another client was served in ${Math.round(performance.now() - startedMs)} ms meanwhile`)
  for (let i = 1; i <= 4; i++) await client.expect('puback', i, 30_000)
  const stored = await server.history('ann', 'u/ann')
  t.equal(stored.filter((message) => message.body === body).length, 4)
})

t.test('WebSocket frames that break the rules', async (t) => {
  const server = await startServer(t)
  const key = randomBytes(16).toString('base64')
  const upgrade = Buffer.from(
    `GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
  )
  const frames: Record<string, Buffer> = {
    'not masked': Buffer.of(0x82, 2, 0, 0),
    'a length of 2^63': Buffer.of(0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0),
    'a length over the limit': Buffer.of(0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0),
    'reserved bits': Buffer.of(0xf2, 0x80, 0, 0, 0, 0),
    'an unknown opcode': Buffer.of(0x8b, 0x80, 0, 0, 0, 0),
    'a text frame': Buffer.of(0x81, 0x81, 0, 0, 0, 0, 0x10),
    'a continuation of nothing': Buffer.of(0x80, 0x80, 0, 0, 0, 0),
  }
  for (const [what, frame] of Object.entries(frames)) {
    t.match(await exchange(server.httpPort, upgrade, frame), /^HTTP\/1.1 101/, what)
  }
  t.equal(await server.metric('parley_connections'), 0)
  await serve(server)
})
