/** Behind a proxy: whose address a connection has on each door, and what becomes of those who do not say it rightly. */
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { eventually } from './helper/eventually.js'
import { bytes, connect as connectPacket, disconnect, hex } from './helper/packets.js'
import { binaryHeader, textHeader } from './helper/proxy-headers.js'
import { type SecureServer, startSecure } from './helper/secure-server.js'
import { stage } from './helper/stage.js'

const host = '127.0.0.1'
const loopback = { trustedProxies: ['127.0.0.0/8'] }

interface Visitor {
  socket: Socket
  received: Buffer
  isClosed: boolean
}

function watched(t: Test, socket: Socket): Visitor {
  const visitor: Visitor = { socket, received: Buffer.alloc(0), isClosed: false }
  socket.on('data', (chunk: Buffer) => {
    visitor.received = Buffer.concat([visitor.received, chunk])
  })
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    visitor.isClosed = true
  })
  t.teardown(() => socket.destroy())
  return visitor
}

const visit = (t: Test, port: number, from = host): Visitor => watched(t, connectTcp({ port, host, localAddress: from, noDelay: true }))

async function hello(s: SecureServer, device: string): Promise<Buffer> {
  return connectPacket({ clientId: device, username: 'ann', password: await s.token('ann') })
}

/** The device is accepted, leaves, and had this address. */
async function isAccepted(s: SecureServer, visitor: Visitor, device: string, address: string): Promise<void> {
  await eventually(() => visitor.received.subarray(0, 4).equals(hex('20 02 00 00')), { what: `${device} is accepted` })
  visitor.socket.write(disconnect)
  await eventually(() => visitor.isClosed, { what: `${device} is gone` })
  const line = () => s.log.find((each) => each.msg === 'connection closed' && each.device === device)
  await eventually(() => line()?.address === address, { what: `${device} had ${address}, not ${line()?.address}` })
}

t.test('with a header of either version, and the CONNECT behind it in the same packet', async (t) => {
  const s = await startSecure(t, loopback)
  const port = s.server.mqttPort ?? 0
  const headers: [Buffer, string][] = [
    [textHeader('203.0.113.7'), '203.0.113.7'],
    [textHeader('2001:db8::1'), '2001:db8::1'],
    [binaryHeader(), '203.0.113.7'],
    [binaryHeader({ command: 0x20, familyAndKind: 0, source: Buffer.alloc(0) }), host],
    [Buffer.from('PROXY UNKNOWN\r\n'), host],
  ]
  for (const [at, [header, address]] of headers.entries()) {
    const visitor = visit(t, port)
    visitor.socket.write(bytes(header, await hello(s, `device-${at}`)))
    await isAccepted(s, visitor, `device-${at}`, address)
  }
})

t.test('cut at every byte, in the header and in the CONNECT', async (t) => {
  const s = await startSecure(t, loopback)
  const port = s.server.mqttPort ?? 0
  for (const [version, header] of [textHeader('203.0.113.7'), binaryHeader()].entries()) {
    await Promise.all(
      Array.from({ length: header.length + 12 }, async (_, at) => {
        const device = `v${version + 1}-${at}`
        const whole = bytes(header, await hello(s, device))
        const visitor = visit(t, port)
        visitor.socket.write(whole.subarray(0, at))
        // So that the server reads them apart.
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
        visitor.socket.write(whole.subarray(at))
        await isAccepted(s, visitor, device, '203.0.113.7')
      }),
    )
  }
  const drip = visit(t, port)
  for (const byte of bytes(textHeader('203.0.113.7'), await hello(s, 'drip'))) {
    drip.socket.write(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await isAccepted(s, drip, 'drip', '203.0.113.7')
})

t.test('ahead of TLS', async (t) => {
  const s = await startSecure(t, loopback)
  for (const [at, header] of [textHeader('203.0.113.7'), binaryHeader()].entries()) {
    const tcp = connectTcp({ port: s.mqttsPort, host, noDelay: true })
    tcp.write(header)
    const visitor = watched(t, connectTls({ socket: tcp, host, ca: s.ca }))
    visitor.socket.write(await hello(s, `tls-${at}`))
    await isAccepted(s, visitor, `tls-${at}`, '203.0.113.7')
  }
})

t.test('who is not a trusted proxy is not believed', async (t) => {
  const s = await startSecure(t, { trustedProxies: ['127.0.0.2'] })
  const port = s.server.mqttPort ?? 0
  for (const header of [textHeader('203.0.113.7'), binaryHeader()]) {
    const liar = visit(t, port)
    liar.socket.write(bytes(header, await hello(s, 'liar')))
    await eventually(() => liar.isClosed, { what: 'a header of a stranger breaks MQTT' })
    t.equal(liar.received.length, 0)
  }
  const direct = visit(t, port)
  direct.socket.write(await hello(s, 'direct'))
  await isAccepted(s, direct, 'direct', host)
  const proxied = visit(t, port, '127.0.0.2')
  proxied.socket.write(bytes(textHeader('203.0.113.7'), await hello(s, 'proxied')))
  await isAccepted(s, proxied, 'proxied', '203.0.113.7')
})

t.test('garbage, no header, and a header that does not come: closed with a line that says so', async (t) => {
  const s = await startSecure(t, { ...loopback, connectTimeoutMs: 500 })
  const port = s.server.mqttPort ?? 0
  const said = (why: RegExp) =>
    s.logged('warn').some((line) => /must begin with a PROXY header/.test(String(line.msg)) && why.test(String(line.why)))
  const openings: [Buffer, RegExp][] = [
    [await hello(s, 'direct'), /does not begin with a PROXY header/],
    [Buffer.from('PROXY TCP4 nobody 127.0.0.1 1 2\r\n'), /not of version 1/],
    [Buffer.from(`PROXY ${'x'.repeat(1_000)}`), /does not end within 107 bytes/],
    [binaryHeader({ command: 0x2f }), /version and command are 0x2f/],
    [binaryHeader({ more: Buffer.alloc(10_000) }), /at most 4096/],
    [textHeader('203.0.113.7').subarray(0, 20), /20 bytes came within 500 ms/],
  ]
  for (const [opening, why] of openings) {
    const visitor = visit(t, port)
    visitor.socket.write(opening)
    await eventually(() => visitor.isClosed && said(why), { what: String(why) })
    t.equal(visitor.received.length, 0, String(why))
  }
  const lines = s.logged('warn').length
  const healthCheck = visit(t, port)
  healthCheck.socket.end()
  await eventually(() => healthCheck.isClosed, { what: 'a health check that sends nothing is let go' })
  t.equal(s.logged('warn').length, lines, 'and is not worth a line')
  const late = visit(t, port)
  late.socket.write(textHeader('203.0.113.7'))
  await eventually(() => late.isClosed, { what: 'a header without a CONNECT' })
})

t.test('sockets that wait for their header count as connections', async (t) => {
  const s = await startSecure(t, { ...loopback, connectionsMax: 5, connectTimeoutMs: 1_000 })
  const all = Array.from({ length: 20 }, () => visit(t, s.server.mqttPort ?? 0))
  await eventually(() => all.filter(({ isClosed }) => !isClosed).length === 5, { what: 'five are left' })
  await eventually(() => all.every(({ isClosed }) => isClosed), { what: 'they are cut' })
  const next = visit(t, s.server.mqttPort ?? 0)
  next.socket.write(bytes(binaryHeader(), await hello(s, 'next')))
  await isAccepted(s, next, 'next', '203.0.113.7')
})

t.test('WebSocket: X-Forwarded-For of a trusted proxy, and of nobody else', async (t) => {
  for (const [trustedProxies, address] of [
    [['127.0.0.1'], '203.0.113.7'],
    [['127.0.0.2'], host],
  ] as const) {
    const s = await startSecure(t, { trustedProxies: [...trustedProxies] })
    const packet = await hello(s, 'web')
    const socket = new WebSocket(`wss://${host}:${s.server.httpPort}/mqtt`, ['mqtt'], {
      ca: s.ca,
      headers: { 'x-forwarded-for': '198.51.100.1, 203.0.113.7' },
    })
    t.teardown(() => socket.terminate())
    socket.on('open', () => socket.send(packet))
    socket.on('message', () => socket.close())
    await eventually(() => s.log.some((line) => line.msg === 'connection closed' && line.device === 'web' && line.address === address), {
      what: `the address is ${address}`,
    })
  }
})

t.test('the HTTP port takes no more connections than there may be', async (t) => {
  const [plain, secure] = [await stage(t, { connectionsMax: 4 }), await startSecure(t, { connectionsMax: 4 })]
  for (const port of [plain.httpPort, secure.server.httpPort]) {
    const all = Array.from({ length: 12 }, () => visit(t, port))
    await eventually(() => all.filter(({ isClosed }) => !isClosed).length === 4, { what: 'four are left' })
    for (const { socket } of all) socket.destroy()
  }
  await eventually(
    async () =>
      (await plain.http('GET', '/healthz').then(
        ({ status }) => status,
        () => 0,
      )) === 200,
  )
})
