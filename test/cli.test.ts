import { spawn, spawnSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeJwt, jwtVerify } from 'jose'
import t, { type Test } from 'tap'
import { createBanner } from '../broker/banner.js'
import { readConfig } from '../broker/config.js'
import { stopOnSignal } from '../broker/stop-on-signal.js'

const cli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))
const secret = 'a-secret-of-at-least-thirty-two-bytes'
const key = (text: string) => new TextEncoder().encode(text)
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PARLEY_')))
const deadlineMs = 20_000
// Dozens of processes are started.
t.setTimeout(120_000)

function run(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    env: { ...clean, ...env },
    encoding: 'utf8',
    timeout: deadlineMs,
  })
  return { status, stdout, stderr }
}

/** What an operator sees of a mistake: words, no stack trace, exit code 2. */
function mistaken(t: Test, outcome: ReturnType<typeof run>, words: RegExp): void {
  t.equal(outcome.status, 2)
  t.equal(outcome.stdout, '')
  t.match(outcome.stderr, words)
  t.notMatch(outcome.stderr, /\n\s+at /)
}

t.test('a command that does not exist', async (t) => {
  mistaken(t, run(['strat']), /parley has no command "strat"; did you mean start\? The commands are start, token, migrate, compact, prove/)
  mistaken(t, run(['frobnicate']), /parley has no command "frobnicate"\. The commands are/)
  t.match(run(['start', '--help']).stdout, /^Usage: parley start \[options\]\n/)
})

t.test('token prints a token of the configured secret and nothing else', async (t) => {
  const env = { PARLEY_JWT_SECRET: secret, PARLEY_JWT_ISSUER: 'me', PARLEY_JWT_AUDIENCE: 'parley' }
  const { status, stdout, stderr } = run(['token', 'bob', '--ttl', '15m'], env)
  t.match({ status, stderr }, { status: 0, stderr: '' })
  t.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
  const { payload } = await jwtVerify(stdout.trim(), key(secret), { issuer: 'me', audience: 'parley' })
  t.match(payload, { sub: 'bob', exp: (payload.iat ?? 0) + 900 })
  t.notOk('scope' in payload)
  const admin = decodeJwt(run(['token', 'root', '--scope', 'admin'], env).stdout.trim())
  t.match(admin, { sub: 'root', scope: 'admin', exp: (admin.iat ?? 0) + 86_400 })
})

t.test('token uses the generated secret of the data folder', async (t) => {
  const dir = join(t.testdir(), 'data')
  const first = run(['token', 'bob', '--data-dir', dir])
  t.equal(first.status, 0)
  t.match(first.stderr, /There was no secret yet: made .*jwt-secret/)
  const generated = key(readFileSync(join(dir, 'jwt-secret'), 'utf8').trim())
  await jwtVerify(first.stdout.trim(), generated)
  const second = run(['token', 'bob', '--json'], { PARLEY_DATA_DIR: dir })
  t.equal(second.stderr, '')
  const answer = JSON.parse(second.stdout) as { user: string; token: string; expires_ts: number }
  t.same(Object.keys(answer), ['user', 'token', 'expires_ts'])
  const { payload } = await jwtVerify(answer.token, generated)
  t.ok(Math.abs((payload.exp ?? 0) * 1000 - answer.expires_ts) < 5000)
})

t.test('processes that start together make one secret', async (t) => {
  const dir = join(t.testdir(), 'data')
  const tokens = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const child = spawn(process.execPath, [cli, 'token', 'bob', '--data-dir', dir], { env: clean, stdio: ['ignore', 'pipe', 'ignore'] })
      t.teardown(() => child.kill('SIGKILL'))
      let out = ''
      child.stdout.on('data', (chunk) => {
        out += chunk
      })
      await once(child, 'close')
      return out.trim()
    }),
  )
  const generated = key(readFileSync(join(dir, 'jwt-secret'), 'utf8').trim())
  for (const token of tokens) await t.resolves(jwtVerify(token, generated))
})

t.test('mistakes are answered in words', async (t) => {
  const dir = t.testdir({ 'key.pem': '' })
  const here = { PARLEY_DATA_DIR: dir }
  mistaken(t, run(['token', 'bob/phone'], here), /"bob\/phone" is not a user id: it must be 1 to 64 characters/)
  mistaken(t, run(['token'], here), /missing required argument 'user'/)
  mistaken(t, run(['token', 'bob', '--ttl', 'soon'], here), /It must be a time such as 90s/)
  mistaken(t, run(['token', 'bob', '--ttl', '0s'], here), /It must be a time such as 90s/)
  mistaken(t, run(['token', 'bob', '--ttl', '9999d'], here), /at most 3650d/)
  mistaken(t, run(['token', 'bob', '--scope', 'god'], here), /Allowed choices are admin/)
  mistaken(t, run(['token', 'bob'], { PARLEY_JWKS_URL: 'https://issuer.example/jwks' }), /from your issuer, as PARLEY_JWKS_URL is set/)
  mistaken(t, run(['start', '--colour']), /unknown option '--colour'/)
  mistaken(t, run(['sart']), /sart|too many arguments/)
  mistaken(t, run(['start'], { PARLEY_MQTT_PORT: 'x', PARLEY_HTTP_PROT: '1' }), /has 2 faults:\n(.*\n)*.*did you mean PARLEY_HTTP_PORT/)
  mistaken(t, run(['start'], { PARLEY_HOST: '0.0.0.0' }), /others can reach/)
  const elsewhere = { PARLEY_DATA_DIR: join(dir, 'elsewhere'), PARLEY_JWT_SECRET: secret, PARLEY_LOG_LEVEL: 'silent' }
  mistaken(
    t,
    run(['start'], { ...elsewhere, PARLEY_HOST: 'no-such-host.invalid' }),
    /PARLEY_HOST is "no-such-host.invalid", for which no address/,
  )
  mistaken(
    t,
    run(['start'], { ...elsewhere, PARLEY_HOST: '192.0.2.7' }),
    /Cannot listen on 192.0.2.7 port \d+: this machine has no such address/,
  )
  writeFileSync(join(dir, 'jwt-secret'), secret, { mode: 0o644 })
  mistaken(t, run(['start'], here), /can be read by others/)
})

t.test('start --print-config shows the effective settings without secrets', async (t) => {
  const env = { PARLEY_JWT_SECRET: secret, PARLEY_WINDOW: '7' }
  for (const args of [['start', '--print-config'], ['--print-config']]) {
    const { status, stdout, stderr } = run(args, env)
    t.match({ status, stderr }, { status: 0, stderr: '' })
    t.match(stdout, /^PARLEY_WINDOW=7$/m)
    t.notMatch(stdout, secret)
  }
  mistaken(t, run(['start', '--print-config'], { PARLEY_WINDOW: '-7' }), /PARLEY_WINDOW is "-7"/)
})

t.test('the help and the version are no mistakes', async (t) => {
  t.match(run(['--help']), { status: 0, stdout: /start \[options\] +run the server/ })
  t.match(run(['prove', '--help']), { status: 0, stdout: /docs\/prove\.md says which kinds of faults there are/ })
  t.match(run(['--version']), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
})

t.test('the banner shows tokens only on loopback with a secret', async (t) => {
  const facts = { mqttPort: 1, mqttsPort: undefined, httpPort: 2, command: 'parley' }
  const local = await createBanner({ ...facts, config: readConfig({}), secret })
  t.match(local, /http:\/\/127\.0\.0\.1:2\/\n/)
  t.match(local, /mosquitto_sub -h 127\.0\.0\.1 -p 1 -u bob -P 'ey[^']+' -i phone -t 'u\/bob\/#' -q 1 -v\n/)
  t.match(local, /mosquitto_pub -h 127\.0\.0\.1 -p 1 -u alice -P 'ey[^']+' -i laptop -t u\/bob\/msg -q 1 -m 'hello'\n/)
  t.match(local, /npx mqtt sub .*\n\n.*npx mqtt pub /)
  t.match(await createBanner({ ...facts, config: readConfig({ PARLEY_HOST: '::1' }), secret }), /http:\/\/\[::1\]:2\/\n(.*\n)*.*-h ::1 /)
  const secure = await createBanner({ ...facts, mqttsPort: 3, config: readConfig({}), secret })
  t.match(
    secure,
    /https:\/\/127\.0\.0\.1:2\/\n.*127\.0\.0\.1:1 {3}over TLS: 127\.0\.0\.1:3 {3}over WebSocket: wss:\/\/127\.0\.0\.1:2\/mqtt\n/,
  )
  t.match(secure, /https:\/\/127\.0\.0\.1:2\/#user=alice&token=(.*\n)*.*mosquitto_sub -h 127\.0\.0\.1 -p 1 /)
  const onlyTls = await createBanner({ ...facts, mqttPort: undefined, mqttsPort: 3, config: readConfig({}), secret })
  t.match(onlyTls, /MQTT {8}over TLS: 127\.0\.0\.1:3 /)
  t.notMatch(onlyTls, /mosquitto|undefined/)
  const open = await createBanner({ ...facts, config: readConfig({ PARLEY_HOST: '0.0.0.0', PARLEY_JWT_SECRET: secret }), secret })
  t.match(open, /http:\/\/localhost:2\/\n(.*\n)*.*parley token alice/)
  t.notMatch(open, /ey[A-Z]/)
  const jwks = await createBanner({ ...facts, config: readConfig({ PARLEY_JWKS_URL: 'https://issuer.example/jwks' }), secret: undefined })
  t.match(jwks, /Tokens come from your issuer/)
  t.notMatch(jwks, /ey[A-Z]|parley token/)
})

t.test('the first signal drains, the second exits at once', async (t) => {
  let now = 0
  function setUp(close: () => Promise<void>, closeTimeoutMs = 60_000) {
    const target = new (class extends EventEmitter {
      codes: number[] = []
      failures: unknown[] = []
      exit(code: number) {
        this.codes.push(code)
        this.emit('exited')
      }
    })()
    const fail = (error: unknown) => {
      target.failures.push(error)
      target.emit('exited')
    }
    stopOnSignal(target, close, closeTimeoutMs, fail, () => now)
    return target
  }
  let closes = 0
  let closed: () => void = () => t.fail('close was not called')
  const slow = setUp(() => {
    closes++
    return new Promise((resolve) => {
      closed = resolve
    })
  })
  slow.emit('SIGTERM')
  t.same(slow.codes, [])
  slow.emit('SIGTERM')
  t.same([slow.codes, closes], [[], 1], 'what npm passes on at once is the same signal')
  now += 1000
  slow.emit('SIGINT')
  t.same([slow.codes, closes], [[1], 1])
  closed()
  const quick = setUp(() => Promise.resolve())
  quick.emit('SIGINT')
  await once(quick, 'exited')
  t.same(quick.codes, [0])
  const faulty = setUp(() => Promise.reject(new Error('no disk')))
  faulty.emit('SIGTERM')
  await once(faulty, 'exited')
  t.match([faulty.codes, faulty.failures], [[], [{ message: 'no disk' }]])
  const stuck = setUp(() => once(new EventEmitter(), 'never').then(() => undefined), 10)
  stuck.emit('SIGTERM')
  await once(stuck, 'exited')
  t.match([stuck.codes, stuck.failures], [[], [{ message: /did not close within 10 ms/ }]])
})

async function started(t: Test, env: Record<string, string> = {}) {
  const ports = { PARLEY_MQTT_PORT: '0', PARLEY_HTTP_PORT: '0', PARLEY_DATA_DIR: join(t.testdir(), 'data') }
  const child = spawn(process.execPath, [cli], { env: { ...clean, ...ports, ...env } })
  t.teardown(() => child.kill('SIGKILL'))
  let banner = ''
  let log = ''
  child.stderr.on('data', (chunk) => {
    log += chunk
  })
  const ended = once(child, 'close')
  await Promise.race([
    ended.then(([code]) => {
      throw new Error(`the server ended with ${code}: ${log}`)
    }),
    new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk) => {
        banner += chunk
        if (banner.includes('A token for anybody else')) resolve()
      })
    }),
  ])
  return { child, banner, ended, log: () => log }
}

t.test('start serves, prints the banner on stdout and JSON on stderr, and ends with 0 on SIGTERM', async (t) => {
  const { child, banner, ended, log } = await started(t)
  const [, page = ''] = /Chat page +(\S+)/.exec(banner) ?? []
  t.equal((await fetch(new URL('healthz', page))).status, 200)
  child.kill('SIGTERM')
  t.same(await ended, [0, null])
  for (const line of log().split('\n').filter(Boolean)) t.type(JSON.parse(line), 'object')
  t.notMatch(log(), /ey[A-Z]\w+\./, 'no token is logged')
})

const commandOf = (banner: string, program: string) => banner.split('\n').find((line) => line.trim().startsWith(program)) ?? 'false'

const tools = [
  { sub: 'mosquitto_sub', pub: 'mosquitto_pub', skip: spawnSync('mosquitto_pub', ['--help']).error ? 'mosquitto is not here' : false },
  { sub: 'npx mqtt sub', pub: 'npx mqtt pub', skip: false },
]
for (const { sub, pub, skip } of tools) {
  t.test(`the commands of the banner can be pasted: ${pub}`, { skip }, async (t) => {
    const { child, banner, ended } = await started(t)
    const env = { ...clean, npm_config_offline: 'true' }
    // It is not known when the listener is connected, so alice repeats herself.
    const listener = spawn('sh', ['-c', `exec ${commandOf(banner, sub)}`], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => listener.kill('SIGKILL'))
    let heard = ''
    listener.stdout.on('data', (chunk) => {
      heard += chunk
    })
    const deadline = Date.now() + deadlineMs
    let published = 0
    while (!heard.includes('hello') && published === 0 && Date.now() < deadline) {
      const publisher = spawn('sh', ['-c', commandOf(banner, pub)], { env, stdio: 'inherit' })
      published = Number((await once(publisher, 'close'))[0])
    }
    t.equal(published, 0)
    t.match(heard, /hello/)
    listener.kill('SIGKILL')
    child.kill('SIGINT')
    t.same(await ended, [0, null])
  })
}

t.test('a data directory that is none is a mistake of the operator', async (t) => {
  const dir = t.testdir({ file: '' })
  for (const path of [join(dir, 'file'), join(dir, 'file', 'data')])
    for (const command of [['start'], ['token', 'bob']])
      mistaken(t, run(command, { PARLEY_DATA_DIR: path }), /^The data directory .*file.* cannot be used: .*not a directory/)
})

t.test('a port in use is a mistake of the operator', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await once(other, 'listening')
  const port = String((other.address() as AddressInfo).port)
  const env = { PARLEY_MQTT_PORT: port, PARLEY_HTTP_PORT: '0', PARLEY_DATA_DIR: join(t.testdir(), 'data') }
  const outcome = run(['start'], env)
  mistaken(t, outcome, new RegExp(`^Cannot listen on 127.0.0.1 port ${port}: another program uses it[^\\n]*\\n$`))
})
