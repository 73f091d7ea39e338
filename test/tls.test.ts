/** TLS without a proxy: stock clients on all doors, what is spoken and what is not, and strangers who do not finish a handshake. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { request as requestHttp } from 'node:http'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import t from 'tap'
import { WebSocket } from 'ws'
import { eventually } from './helper/eventually.js'
import { bytes, connect as connectPacket, hex } from './helper/packets.js'
import { connectRaw } from './helper/raw-client.js'
import { type SecureServer, startSecure } from './helper/secure-server.js'

const host = '127.0.0.1'

/** Resolves when the handshake is done; rejects when it failed, however it did. */
function handshake(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ port, host, ...options })
    socket.on('secureConnect', () => resolve(socket))
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('closed')))
  })
}

interface Stranger {
  socket: Socket
  isClosed: boolean
}

async function stranger(port: number): Promise<Stranger> {
  const socket = connectTcp({ port, host })
  const opened: Stranger = { socket, isClosed: false }
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    opened.isClosed = true
  })
  socket.resume()
  await once(socket, 'connect')
  return opened
}

/** Real users are served, and nothing was a fault of the server. */
async function serves(s: SecureServer, name: string): Promise<void> {
  const { port, ca } = { port: s.mqttsPort, ca: s.ca }
  const client = await connectRaw({ port, transport: 'tls', ca, clientId: name, username: 'ann', password: await s.token('ann') })
  await client.publish('u/ann/msg', 'to myself', { qos: 1 })
  await client.disconnect()
  if (s.logged('warn', 'error', 'fatal').length > 0) throw new Error(JSON.stringify(s.logged('warn', 'error', 'fatal')))
}

t.test('over TLS, WebSocket in TLS, and TCP beside them', async (t) => {
  const s = await startSecure(t)
  const { mqttPort, httpPort } = s.server
  const phone = await s.client(`mqtts://${host}:${s.mqttsPort}`, 'alice', 'phone')
  const web = await s.client(`wss://${host}:${httpPort}/mqtt`, 'bob', 'web')
  const old = await s.client(`mqtt://${host}:${mqttPort}`, 'bob', 'old')
  const heard = [web, old].map((client) => {
    const messages: string[] = []
    client.on('message', (topic, payload: Buffer) => topic === 'u/bob/msg' && messages.push(payload.toString()))
    return messages
  })
  await phone.publishAsync('u/bob/msg', 'hi', { qos: 1 })
  await eventually(() => heard.every(({ length }) => length === 1))
  for (const [message = ''] of heard) t.match(JSON.parse(message), { seq: 1, from: 'alice', body: 'hi' })
  for (const transport of ['tls', 'ws', 'tcp']) t.equal(await s.metric(`parley_connections{transport="${transport}"}`), 1, transport)
  t.match(await s.get('/readyz'), { status: 200 })
  t.match(await s.get('/'), { status: 200, text: /<html/ })
  await Promise.all([phone, web, old].map((client) => client.endAsync()))
  await eventually(async () => (await s.metric('parley_connections{transport="tls"}')) === 0)
  await serves(s, 'after')
})

const mosquitto = spawnSync('mosquitto_pub', ['--help']).error ? 'mosquitto_pub is not here' : false

t.test('mosquitto_pub --cafile', { skip: mosquitto }, async (t) => {
  const s = await startSecure(t)
  const bob = await s.client(`mqtts://${host}:${s.mqttsPort}`, 'bob', 'phone')
  const got: string[] = []
  bob.on('message', (_topic, payload: Buffer) => got.push(payload.toString()))
  const server = ['-h', 'localhost', '-p', String(s.mqttsPort), '--cafile', join(s.folder, 'tls-cert.pem')]
  const message = ['-u', 'bob', '-P', await s.token('bob'), '-i', 'laptop', '-t', 'u/bob/msg', '-q', '1', '-m', 'hello']
  const publisher = spawn('mosquitto_pub', [...server, ...message], { stdio: 'inherit' })
  t.same(await once(publisher, 'close'), [0, null])
  await eventually(() => got.some((text) => text.includes('"body":"hello"')))
  await bob.endAsync()
})

t.test('1.2 and 1.3 with authenticated encryption, and nothing older', async (t) => {
  const s = await startSecure(t)
  for (const port of [s.mqttsPort, s.server.httpPort]) {
    const attempt = (options: ConnectionOptions): Promise<TLSSocket> => handshake(port, { ca: s.ca, ...options })
    const newest = await attempt({})
    t.equal(newest.getProtocol(), 'TLSv1.3')
    newest.destroy()
    for (const ciphers of ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305']) {
      const socket = await attempt({ maxVersion: 'TLSv1.2', ciphers })
      t.match([socket.getProtocol(), socket.getCipher().name], ['TLSv1.2', ciphers])
      socket.destroy()
    }
    await t.rejects(
      attempt({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA' }),
      /handshake failure/,
      'CBC',
    )
    const old: ConnectionOptions = { minVersion: 'TLSv1', ciphers: 'ALL:@SECLEVEL=0' }
    await t.rejects(attempt({ ...old, maxVersion: 'TLSv1.1' }), /protocol version/, '1.1')
    await t.rejects(attempt({ ...old, maxVersion: 'TLSv1' }), /protocol version/, '1.0')
  }
  await serves(s, 'after')
})

t.test('no renegotiation', async (t) => {
  const s = await startSecure(t)
  const socket = await handshake(s.mqttsPort, { ca: s.ca, maxVersion: 'TLSv1.2' })
  socket.write(connectPacket({ clientId: 'phone', username: 'ann', password: await s.token('ann') }))
  await once(socket, 'data')
  const ended = new Promise<string>((resolve) => {
    socket.on('error', (error) => resolve(error.message))
    socket.on('close', () => resolve('closed'))
  })
  socket.renegotiate({}, (error) => error && socket.destroy(error))
  t.match(await ended, /no renegotiation|closed/i)
  await serves(s, 'after')
})

t.test('what is not TLS, on both ports', async (t) => {
  const s = await startSecure(t)
  const openings: Record<string, Buffer> = {
    'random bytes': Buffer.from(Array.from({ length: 4_000 }, (_, i) => (i * 7919) % 251)),
    'MQTT without TLS': connectPacket({ clientId: 'phone', username: 'ann', password: await s.token('ann') }),
    'HTTP without TLS': Buffer.from('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n'),
    'a record of 64 kB': bytes(hex('16 03 01 ff ff'), Buffer.alloc(65_535)),
    'a ClientHello of zeros': bytes(hex('16 03 01 02 00 01 00 01 fc'), Buffer.alloc(508)),
  }
  for (const port of [s.mqttsPort, s.server.httpPort]) {
    for (const [what, opening] of Object.entries(openings)) {
      const { socket } = await stranger(port)
      let answer = ''
      socket.on('data', (chunk: Buffer) => {
        answer += chunk.toString('latin1')
      })
      socket.write(opening)
      await eventually(() => socket.destroyed, { what: `${what} is closed` })
      t.notMatch(answer, /HTTP\/1\.1 200/, what)
      t.not(answer.charCodeAt(0), 0x20, `${what}: no CONNACK`)
    }
    for (let at = 1; at <= 20; at++) {
      const { socket } = await stranger(port)
      socket.write(bytes(hex('16 03 01 02 00 01 00 01 fc')).subarray(0, at), () => socket.resetAndDestroy())
    }
  }
  await t.rejects(
    new Promise((_resolve, reject) => requestHttp({ host, port: s.server.httpPort }).on('error', reject).end()),
    'http on the port of https',
  )
  t.ok(s.logged('debug').some(({ msg }) => msg === 'a TLS handshake failed'))
  await serves(s, 'after')
  t.match(await s.get('/healthz'), { status: 200 })
})

t.test('who does not finish the handshake in time is cut, also when bytes keep dripping', async (t) => {
  const s = await startSecure(t, { connectTimeoutMs: 500 })
  for (const port of [s.mqttsPort, s.server.httpPort]) {
    const [silent, dripping] = [await stranger(port), await stranger(port)]
    const hello = bytes(hex('16 03 01 02 00 01 00 01 fc 03 03'), Buffer.alloc(505))
    let at = 0
    const timer = setInterval(() => dripping.isClosed || dripping.socket.write(hello.subarray(at, ++at)), 50)
    t.teardown(() => clearInterval(timer))
    const startedMs = performance.now()
    await eventually(() => silent.isClosed && dripping.isClosed, { timeoutMs: 4_000, what: 'both are closed' })
    t.ok(performance.now() - startedMs > 300)
  }
  const idle = await handshake(s.mqttsPort, { ca: s.ca })
  await eventually(() => idle.destroyed || idle.readableEnded, { timeoutMs: 4_000, what: 'no CONNECT after the handshake' })
  await serves(s, 'after')
})

t.test('too many bytes before CONNECT', async (t) => {
  const s = await startSecure(t)
  const socket = await handshake(s.mqttsPort, { ca: s.ca })
  const closed = new Promise((resolve) => socket.on('close', resolve))
  socket.on('error', () => socket.destroy())
  socket.write(bytes(hex('10 ff ff ff 7f')))
  for (let i = 0; i < 4 && !socket.destroyed; i++) socket.write(Buffer.alloc(1_048_576))
  socket.resume()
  await closed
  await serves(s, 'after')
})

t.test('handshakes count as connections', async (t) => {
  const s = await startSecure(t, { connectionsMax: 5, connectTimeoutMs: 1_000 })
  const all = await Promise.all(Array.from({ length: 20 }, () => stranger(s.mqttsPort)))
  await eventually(() => all.filter(({ isClosed }) => !isClosed).length === 5, { what: 'five are left' })
  await eventually(() => all.every(({ isClosed }) => isClosed), { what: 'they are cut' })
  await serves(s, 'after')
})

t.test('a client that stops reading is fed from the log later', async (t) => {
  const s = await startSecure(t, { window: 16 })
  const common = { port: s.mqttsPort, transport: 'tls' as const, ca: s.ca, username: 'ann', password: await s.token('ann') }
  const [writer, reader] = [await connectRaw({ ...common, clientId: 'writer' }), await connectRaw({ ...common, clientId: 'reader' })]
  reader.pause()
  const count = 100
  for (let i = 0; i < count; i++) await writer.publish('u/ann/msg', `${i} ${'x'.repeat(60_000)}`, { qos: 1 })
  reader.resume()
  for (let seq = 1; seq <= count; seq++) t.equal(JSON.parse((await reader.message('u/ann/msg')).payload.toString()).seq, seq)
  await Promise.all([writer.disconnect(), reader.disconnect()])
})

t.test('pages of the own origin may open a WebSocket, those of the same host without TLS may not', async (t) => {
  const s = await startSecure(t, { allowedOrigins: ['https://chat.example.org'] })
  const upgrade = (origin: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`wss://${host}:${s.server.httpPort}/mqtt`, ['mqtt'], { ca: s.ca, origin })
      socket.on('error', reject)
      socket.on('unexpected-response', (_request, { statusCode }) => resolve(statusCode ?? 0))
      socket.on('open', () => {
        socket.terminate()
        resolve(101)
      })
    })
  t.equal(await upgrade(`https://${host}:${s.server.httpPort}`), 101)
  t.equal(await upgrade('https://chat.example.org'), 101)
  t.equal(await upgrade(`http://${host}:${s.server.httpPort}`), 403)
  t.equal(await upgrade('https://elsewhere.example.org'), 403)
})

t.test('the plain port can be off', async (t) => {
  const s = await startSecure(t, { mqttPort: undefined })
  t.equal(s.server.mqttPort, undefined)
  t.equal(s.server.config.mqttPort, undefined)
  await serves(s, 'alone')
})
