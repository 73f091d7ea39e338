/** Parley inside another program: as `import { createServer } from 'parley'`, several at a time, and gone without a trace. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError, createServer, refuse } from '../broker/index.js'
import { StoreUnavailable } from '../broker/store/store.js'
import { publish } from './helper/packets.js'
import { stage } from './helper/stage.js'

async function folder(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'parley-library-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const quiet = { mqttPort: 0, httpPort: 0, logLevel: 'silent' as const }

t.test('two servers in one program know nothing of each other', async (t) => {
  const [one, two] = [await stage(t), await stage(t)]
  t.not(one.mqttPort, two.mqttPort)
  t.not(one.httpPort, two.httpPort)
  const [alice, bob] = await one.cast(['alice', 'bob'])
  const otherBob = await two.actor('bob')
  await alice.sends('u/bob', 'hi')
  await bob.receives({ seq: 1 })
  await otherBob.isRefused('u/alice', 'hi', 'not_found')
  await otherBob.receivesNothing()
  t.equal(await one.metric('parley_sends_total{result="stored"}'), 1)
  t.equal(await two.metric('parley_sends_total{result="stored"}'), 0)
  await one.server.close()
  t.equal((await otherBob.sends('u/bob', 'still here')).seq, 1)
})

const program = `
  import { createServer, mintToken } from 'parley'
  const [one, two] = process.argv.slice(1)
  const options = { mqttPort: 0, httpPort: 0, logLevel: 'silent' }
  const servers = [await createServer({ ...options, dataDir: one }), await createServer({ ...options, dataDir: two })]
  for (const server of servers) {
    const { status } = await fetch('http://127.0.0.1:' + server.httpPort + '/readyz')
    if (status !== 200) throw new Error('not ready: ' + status)
    const token = await mintToken({ secret: server.config.jwtSecret, user: 'alice', expiresInSeconds: 60 })
    if (token.split('.').length !== 3) throw new Error('no token')
  }
  await Promise.all(servers.map((server) => server.close()))
  console.log('closed')
`

t.test('a program that closes its servers ends by itself', async (t) => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, await folder(t), await folder(t)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  const [code, signal] = await once(child, 'exit')
  t.strictSame({ code, signal, output }, { code: 0, signal: null, output: 'closed\n' })
})

t.test('wrong options are named all at once, and nothing is left running', async (t) => {
  const dataDir = join(await folder(t), 'never')
  const wrong = { ...quiet, dataDir, mqttPort: 99_999, window: 0, logLevel: 'loud', payloadBytesMax: 'big', wimdow: 5 }
  const error = await createServer(wrong as never).then(
    () => t.fail('it must not start'),
    (error: unknown) => error,
  )
  t.ok(error instanceof ConfigError)
  const { faults, message } = error as ConfigError
  t.equal(faults.length, 5)
  for (const name of ['PARLEY_MQTT_PORT', 'PARLEY_WINDOW', 'PARLEY_LOG_LEVEL', 'PARLEY_PAYLOAD_BYTES_MAX', 'wimdow']) t.match(message, name)
  t.match(message, /did you mean window/)
  await t.rejects(readdir(dataDir), { code: 'ENOENT' })
})

t.test('a data folder has one server', async (t) => {
  const dataDir = await folder(t)
  const s = await stage(t, { dataDir })
  const alice = await s.actor('alice')
  await t.rejects(createServer({ ...quiet, dataDir }), /in use/)
  await alice.sends('u/alice', 'unharmed')
  await s.server.close()
  const next = await createServer({ ...quiet, dataDir })
  await next.close()
})

t.test('a port that is taken: a clear error, and the folder is free again', async (t) => {
  const s = await stage(t)
  const dataDir = await folder(t)
  for (const taken of [{ mqttPort: s.mqttPort }, { httpPort: s.httpPort }]) {
    const [port] = Object.values(taken)
    await t.rejects(createServer({ ...quiet, dataDir, ...taken }), new RegExp(`${port}`))
  }
  const server = await createServer({ ...quiet, dataDir })
  await server.close()
})

t.test('closing twice is closing once, and what was acknowledged is there afterwards', async (t) => {
  const dataDir = await folder(t)
  const s = await stage(t, { dataDir })
  await s.admin('POST', '/users', { user: 'bob' })
  const raw = await s.raw('alice')
  const count = 500
  raw.send(
    ...Array.from({ length: count }, (_, at) =>
      publish({ topic: 'u/bob/msg', qos: 1, packetId: at + 1, payload: `{"id":"n${at}","body":"${at}"}` }),
    ),
  )
  await raw.expect('puback', 1)
  await Promise.all([s.server.close(), s.server.close()])
  await s.server.close()
  const received = await raw.expectClose()
  const acked = received.filter(({ cmd }) => cmd === 'puback').length
  await s.restart()
  const alice = await s.actor('alice')
  const { head } = await alice.calls<{ head: number }>('history', { conv: 'u/bob' })
  t.ok(head >= acked && acked >= 1, `${acked} acknowledged, ${head} stored`)
})

t.test('sockets that do nothing do not keep a server from closing', async (t) => {
  const s = await stage(t)
  const idle = [connect(s.mqttPort, '127.0.0.1'), connect(s.httpPort, '127.0.0.1')]
  await Promise.all(idle.map((socket) => once(socket, 'connect')))
  const closed = idle.map((socket) => {
    socket.on('error', () => undefined)
    socket.resume()
    return once(socket, 'close')
  })
  await s.server.close()
  await Promise.all(closed)
  t.pass('all are closed')
})

t.test('a new user who cannot be stored: the connection ends, and the next one is welcome when it can', async (t) => {
  let isFull = true
  const s = await stage(t, {
    plugins: [
      ({ store: { directory } }) => {
        const putUser = directory.putUser.bind(directory)
        directory.putUser = (record) => (isFull ? Promise.reject(new StoreUnavailable('the disk is full')) : putUser(record))
        return { name: 'full disk' }
      },
    ],
  })
  const first = await s.raw('alice').catch(() => undefined)
  await first?.expectClose()
  isFull = false
  const second = await s.raw('alice')
  await second.ping()
})

t.test('a plugin of the program', async (t) => {
  const stored: string[] = []
  const s = await stage(t, {
    plugins: [
      () => ({
        name: 'mine',
        authorizePublish: ({ user }) => (user === 'mallory' ? refuse('muted', 'mallory is quiet today') : undefined),
        onMessageStored: (conv, { seq, from }) => void stored.push(`${conv} ${seq} ${from}`),
        onConnected: () => {
          throw new Error('a watcher that fails harms nobody')
        },
      }),
    ],
  })
  const [alice, mallory] = await s.cast(['alice', 'mallory'])
  await alice.sends('u/mallory', 'hi')
  await mallory.receives({ seq: 1 })
  t.match(await mallory.isRefused('u/alice', 'ho', 'muted'), /quiet/)
  t.strictSame(stored, ['u/alice/mallory 1 alice'])
  const twice = createServer({
    ...quiet,
    dataDir: await folder(t),
    plugins: [() => ({ name: 'greedy', routes: { 'u/{peer}/msg': () => undefined } })],
  })
  await t.rejects(twice, /owned by messages and by greedy/)
})
