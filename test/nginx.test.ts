/**
 * A real nginx with deploy/nginx.conf, of which only ports, paths and the nodes' addresses are replaced, in front of two servers: balance,
 * the end of TLS, WebSocket, idle connections, and whose address a connection has.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { makeCertificate } from '../loadtest/peers/certificate.js'
import { eventually } from './helper/eventually.js'
import { freePort } from './helper/own-service.js'
import { connect as connectPacket, disconnect } from './helper/packets.js'
import { connectRaw, type RawClient } from './helper/raw-client.js'
import { type SecureServer, startSecure } from './helper/secure-server.js'

const host = '127.0.0.1'
const root = fileURLToPath(new URL('../../', import.meta.url))
const stream = '/usr/lib/nginx/modules/ngx_stream_module.so'
const program = ['nginx', '/usr/sbin/nginx'].find((path) => spawnSync(path, ['-v']).status === 0)
const hasStream = spawnSync('test', ['-e', stream]).status === 0
const isMissing = program === undefined || !hasStream
const required = (process.env.PARLEY_TEST_REQUIRE ?? '').split(',').includes('nginx')
if (isMissing && required) throw new Error('PARLEY_TEST_REQUIRE has nginx, and nginx with its stream module is not here')
const skip = isMissing ? 'nginx with its stream module is not here' : false

interface Front {
  mqttsPort: number
  httpsPort: number
  ca: string
  nodes: SecureServer[]
}

/** Replaces what is there, and fails when it is not. */
function replaced(config: string, from: string | RegExp, to: string): string {
  const result = config.replaceAll(from, to)
  if (result === config) throw new Error(`deploy/nginx.conf has no ${from}`)
  return result
}

async function front(t: Test): Promise<Front> {
  const options = { trustedProxies: [host], tlsCert: undefined, tlsKey: undefined }
  const nodes = [await startSecure(t, options), await startSecure(t, options)]
  const folder = await mkdtemp(join(tmpdir(), 'parley-nginx-'))
  const tls = makeCertificate()
  await mkdir(join(folder, 'tls'))
  await writeFile(join(folder, 'tls/fullchain.pem'), tls.cert)
  await writeFile(join(folder, 'tls/privkey.pem'), tls.key)
  // Its workers are another user when it is started by root.
  await chmod(folder, 0o755)
  const [mqttsPort, httpsPort] = [await freePort(), await freePort()]
  const upstream = (ports: (number | undefined)[]): string =>
    ports.map((port) => `server ${host}:${port} max_fails=2 fail_timeout=5s;`).join('\n')
  let config = await readFile(join(root, 'deploy/nginx.conf'), 'utf8')
  config = replaced(config, /(?:\s*server broker-\d:1883 [^;]*;)+/g, upstream(nodes.map(({ server }) => server.mqttPort)))
  config = replaced(config, /(?:\s*server broker-\d:8080 [^;]*;)+/g, upstream(nodes.map(({ server }) => server.httpPort)))
  config = replaced(config, 'listen 8883', `listen ${host}:${mqttsPort}`)
  config = replaced(config, 'listen 443', `listen ${host}:${httpsPort}`)
  config = replaced(config, '/etc/nginx/tls', join(folder, 'tls'))
  config = replaced(config, '/run/nginx.pid', join(folder, 'nginx.pid'))
  config = replaced(config, '/var/log/nginx/error.log', join(folder, 'error.log'))
  config = replaced(config, 'worker_processes auto', 'worker_processes 1')
  config = replaced(config, 'worker_rlimit_nofile 200000', 'worker_rlimit_nofile 4000')
  config = replaced(config, 'worker_connections 100000', 'worker_connections 2000')
  const path = join(folder, 'nginx.conf')
  await writeFile(path, config)
  const nginx: ChildProcess = spawn(program ?? '', ['-c', path, '-e', join(folder, 'error.log'), '-g', 'daemon off;'], { stdio: 'inherit' })
  t.teardown(async () => {
    if (nginx.exitCode === null) {
      nginx.kill('SIGTERM')
      await once(nginx, 'exit')
    }
    await rm(folder, { recursive: true, force: true })
  })
  const created = { mqttsPort, httpsPort, ca: tls.cert, nodes }
  await eventually(async () => (await get(created, '/healthz')) === 200, { what: 'nginx answers', timeoutMs: 20_000 })
  return created
}

const get = ({ httpsPort, ca }: Front, path: string): Promise<number> =>
  new Promise((resolve) => {
    const asked = request({ host, port: httpsPort, path, ca, agent: false }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
    asked.on('error', () => resolve(0))
    asked.end()
  })

async function phone(t: Test, { mqttsPort, ca, nodes }: Front, user: string, clientId: string): Promise<RawClient> {
  const password = (await nodes[0]?.token(user)) ?? ''
  const client = await connectRaw({ port: mqttsPort, transport: 'tls', ca, clientId, username: user, password })
  t.teardown(() => client.reset())
  return client
}

const sessionsOf = (node: SecureServer): number => node.log.filter(({ msg }) => msg === 'connection closed').length

t.test('MQTT over TLS ends at nginx and is balanced over both nodes, each with the address of its client', { skip }, async (t) => {
  const f = await front(t)
  const clients = await Promise.all(Array.from({ length: 20 }, (_, at) => phone(t, f, `user-${at}`, 'phone')))
  for (const [at, client] of clients.entries()) await client.publish(`u/user-${at}/msg`, 'to myself', { qos: 1 })
  await Promise.all(clients.map((client) => client.disconnect()))
  await eventually(() => f.nodes.reduce((sum, node) => sum + sessionsOf(node), 0) >= 20, { what: 'all are gone' })
  for (const node of f.nodes) {
    const lines = node.log.filter(({ msg }) => msg === 'connection closed')
    t.ok(lines.length >= 5, `${lines.length} of 20 on this node`)
    t.ok(lines.every(({ transport, address }) => transport === 'tcp' && address === host))
    t.same(node.logged('warn', 'error'), [])
  }
})

t.test('WebSocket: the upgrade with its subprotocol, X-Forwarded-For of nginx only, and other paths', { skip }, async (t) => {
  const f = await front(t)
  const packet = connectPacket({ clientId: 'web', username: 'ann', password: (await f.nodes[0]?.token('ann')) ?? '' })
  const headers = { 'x-forwarded-for': '203.0.113.7' }
  const socket = new WebSocket(`wss://${host}:${f.httpsPort}/mqtt`, ['mqtt'], {
    ca: f.ca,
    headers,
    origin: `https://${host}:${f.httpsPort}`,
  })
  t.teardown(() => socket.terminate())
  const received: Buffer[] = []
  socket.on('message', (content: Buffer) => received.push(content))
  await once(socket, 'open')
  t.equal(socket.protocol, 'mqtt')
  socket.send(packet)
  await eventually(() => received.length > 0, { what: 'a CONNACK' })
  socket.send(disconnect)
  const line = () => f.nodes.flatMap(({ log }) => log).find(({ msg, device }) => msg === 'connection closed' && device === 'web')
  await eventually(() => line() !== undefined, { what: 'it is gone' })
  t.match(line(), { transport: 'ws', address: host }, 'what the client wrote is not believed')
  const refused = new WebSocket(`wss://${host}:${f.httpsPort}/mqtt`, ['other'], { ca: f.ca })
  await t.rejects(once(refused, 'open'), /400/)
  t.equal(await get(f, '/'), 200)
  t.equal(await get(f, '/metrics'), 404)
  t.equal(await get(f, '/readyz'), 200)
})

t.test('a node that ends: its clients come back on the other one', { skip }, async (t) => {
  const f = await front(t)
  const clients = await Promise.all(Array.from({ length: 10 }, (_, at) => phone(t, f, `user-${at}`, 'phone')))
  await f.nodes[0]?.server.close()
  await eventually(() => clients.some(({ isClosed }) => isClosed), { what: 'clients of the node are cut' })
  for (let at = 0; at < 10; at++) await (await phone(t, f, `user-${at}`, 'phone')).ping()
})

t.test('idle connections are not cut by nginx before MQTT would do it', async (t) => {
  const config = await readFile(join(root, 'deploy/nginx.conf'), 'utf8')
  for (const setting of ['proxy_timeout', 'proxy_read_timeout', 'proxy_send_timeout']) {
    t.match(config, new RegExp(`${setting} 1h;`), `${setting}: a keepalive is at most 18.2 hours, in practice minutes`)
  }
})
