import { generateKeyPairSync } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import t from 'tap'
import { type Config, ConfigError, describeConfig, readConfig } from '../broker/config.js'
import { settings } from '../broker/config-settings.js'
import { createLogger } from '../broker/logger.js'
import { loadSecret, SecretError } from '../broker/secret.js'
import type { Setting } from '../broker/setting-kinds.js'
import { makeCertificate } from '../loadtest/peers/certificate.js'

const table = Object.entries(settings) as [keyof Config, Setting<unknown>][]
const secret = 'a-secret-of-at-least-thirty-two-bytes'
const pem = (key: { export(options: { format: 'pem'; type: 'spki' }): string | Buffer }) =>
  key.export({ format: 'pem', type: 'spki' }).toString()

function faults(env: Record<string, string>, overrides: object = {}): readonly string[] {
  try {
    readConfig(env, overrides)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

t.test('without any setting everything has its default', async (t) => {
  const config = readConfig({})
  t.match(config, {
    host: '127.0.0.1',
    mqttPort: 1883,
    mqttsPort: 8883,
    httpPort: 8080,
    dataDir: './data',
    jwtSecret: undefined,
    anonymous: false,
    topics: [],
    allowedOrigins: [],
    rateLimit: { perSecond: 100, burst: 1000 },
    groupRateLimit: { perSecond: 200, burst: 2000 },
    ipRateLimit: { perSecond: 500, burst: 5000 },
    ipConnectionsMax: 10_000,
    ipConnectRateLimit: { perSecond: 200, burst: 5000 },
    ipFailedLoginRateLimit: { perSecond: 50, burst: 1000 },
    failedLoginRateLimit: { perSecond: 1, burst: 60 },
    payloadBytesMax: 65_536,
    packetBytesMax: 262_144,
    connectBytesMax: 8192,
    connectTimeoutMs: 5000,
    connectionsMax: 100_000,
    sessionsPerUser: 100,
    sessionExpiryDays: 90,
    window: 128,
    sessionBacklogMax: 10_000,
    conversationBacklogMax: 1000,
    groupMembersMax: 500,
    socketBytesMax: 1_048_576,
    slowClientMs: 60_000,
    storeRetryMs: 10_000,
    filtersMax: 100,
    subscriptionsMax: 500,
    presenceGraceMs: 5000,
    drainMs: 10_000,
  })
  t.same(Object.keys(config), Object.keys(settings))
  t.ok(Object.isFrozen(config))
  t.equal(readConfig({ PARLEY_WINDOW: '' }).window, 128, 'an empty variable is not set')
})

t.test('every setting is read from its variable, and what is printed can be read again', async (t) => {
  const config = readConfig({
    PARLEY_HOST: '::1',
    PARLEY_MQTT_PORT: '0',
    PARLEY_HTTP_PORT: '0',
    PARLEY_RATE_LIMIT: '2.5/s',
    PARLEY_ANONYMOUS: 'on',
    PARLEY_LOG_LEVEL: 'silent',
    PARLEY_TOPICS: '[{"topic":"iot/{user}/#","publish":true},{"topic":"#","subscribe":true}]',
    PARLEY_ALLOWED_ORIGINS: 'https://a.example, http://localhost:3000',
    PARLEY_JWT_SECRET: secret,
    PARLEY_TEST_ANYTHING: 'is not ours',
  })
  t.match(config, { host: '::1', mqttPort: 0, anonymous: true, rateLimit: { perSecond: 2.5, burst: 3 }, jwtSecret: secret })
  t.same(config.allowedOrigins, ['https://a.example', 'http://localhost:3000'])
  t.equal(config.topics.length, 2)
  t.equal(readConfig({ PARLEY_RATE_LIMIT: 'off' }).rateLimit, undefined)
  const off = readConfig({ PARLEY_RATE_LIMIT: 'off', PARLEY_IP_CONNECTIONS_MAX: '5' })
  t.equal(off.ipConnectionsMax, undefined, 'off switches off what belongs to it')
  t.equal(off.groupRateLimit, undefined)
  t.equal(readConfig({ PARLEY_IP_CONNECTIONS_MAX: 'off' }).ipConnectionsMax, undefined)
  t.same(readConfig({ PARLEY_RATE_LIMIT: '100/s burst 1000' }).rateLimit, { perSecond: 100, burst: 1000 })
  const printed = Object.fromEntries(
    table.filter(([name]) => config[name] !== undefined).map(([name, setting]) => [setting.env, setting.print(config[name])]),
  )
  t.same(readConfig(printed), config)
})

t.test('values given in code win and are checked alike; a Config can be given again', async (t) => {
  t.equal(readConfig({ PARLEY_WINDOW: '5' }, { window: 7 }).window, 7)
  t.equal(readConfig({ PARLEY_RATE_LIMIT: '1/s' }, { rateLimit: undefined }).rateLimit, undefined)
  t.equal(readConfig({}, { window: undefined as unknown as number }).window, 128)
  t.match(faults({}, { window: 0 }), [/PARLEY_WINDOW is 0: allowed is a whole number from 1 to 1024/])
  t.match(faults({}, { windo: 3 }), [/option windo is not a setting; did you mean window\?/])
  const config = readConfig({ PARLEY_TOPICS: '[{"topic":"a/+"}]', PARLEY_JWT_SECRET: secret })
  t.same(readConfig({}, config), config)
})

t.test('all faults come in one report, with the value given and what is allowed', async (t) => {
  const env = {
    PARLEY_MQTT_PORT: '70000',
    PARLEY_LOG_LEVEL: 'loud',
    PARLEY_WINDOW: '1e2',
    PARLEY_RATE_LIMT: 'off',
    PARLEY_JWT_SECRET: '-----BEGIN hunter2',
  }
  t.throws(() => readConfig(env), { name: 'ConfigError', message: /has 5 faults:\n( {2}- .+\n?){5}$/ })
  const report = faults(env).join('\n')
  t.match(report, /PARLEY_MQTT_PORT is "70000": allowed is a whole number from 0 to 65535/)
  t.match(report, /PARLEY_LOG_LEVEL is "loud": allowed is one of fatal, error, warn/)
  t.match(report, /PARLEY_WINDOW is "1e2"/)
  t.match(report, /PARLEY_RATE_LIMT is not a setting; did you mean PARLEY_RATE_LIMIT\?/)
  t.match(report, /PARLEY_JWT_SECRET is \(hidden, 18 characters\): it is a PEM key/)
  t.notMatch(report, /hunter2/)
  t.match(faults({ PARLEY_SOMETHING_ELSE_ALTOGETHER: '1' }), [/is not a setting; docs\/configuration.md lists them all/])
})

t.test('the nodes of a cluster must know the same tokens', async (t) => {
  const env = { PARLEY_MONGODB_URL: 'mongodb://user:hush@a/parley', PARLEY_REDIS_URL: 'redis://b' }
  t.throws(() => readConfig(env), /all nodes must know the same tokens/)
  t.equal(readConfig({ ...env, PARLEY_JWT_SECRET: 'x'.repeat(32) }).redisUrl, 'redis://b')
})

t.test('each faulty value is refused', async (t) => {
  const faulty: [string, string, RegExp][] = [
    ['PARLEY_HOST', 'a b', /an IP address or host name/],
    ['PARLEY_MQTT_PORT', '-1', /0 to 65535/],
    ['PARLEY_MQTT_PORT', '1.5', /0 to 65535/],
    ['PARLEY_MQTT_PORT', '0x10', /0 to 65535/],
    ['PARLEY_WINDOW', '1025', /1 to 1024/],
    ['PARLEY_NODE_ID', 'a/b', /1 to 64 characters/],
    ['PARLEY_ANONYMOUS', 'true', /on or off/],
    ['PARLEY_RATE_LIMIT', '100', /off, or a rate/],
    ['PARLEY_RATE_LIMIT', '0/s', /off, or a rate/],
    ['PARLEY_RATE_LIMIT', '1/s burst 0', /off, or a rate/],
    ['PARLEY_MONGODB_URL', 'mongodb://x', /set without PARLEY_REDIS_URL/],
    ['PARLEY_MONGODB_URL', 'http://x', /must begin with mongodb:\/\/ or mongodb\+srv:\/\//],
    ['PARLEY_REDIS_URL', 'redis://x', /set without PARLEY_MONGODB_URL/],
    ['PARLEY_REDIS_URL', 'http://x', /must begin with redis:\/\/, rediss:\/\//],
    ['PARLEY_JWKS_URL', 'ftp://x/jwks', /http or https/],
    ['PARLEY_JWKS_URL', 'https://a:b@x/jwks', /"https:\/\/\(hidden\)@x\/jwks": a URL with credentials/],
    ['PARLEY_ALLOWED_ORIGINS', 'https://a.example/path', /not an origin/],
    ['PARLEY_ALLOWED_ORIGINS', '*', /not an origin/],
    ['PARLEY_JWT_PUBLIC_KEY', './no/such/key.pem', /file "\.\/no\/such\/key\.pem" cannot be read \(ENOENT\)/],
    ['PARLEY_JWT_PUBLIC_KEY', '-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----', /cannot be read as a PEM/],
    ['PARLEY_PACKET_BYTES_MAX', '65536', /at least 256 more than PARLEY_PAYLOAD_BYTES_MAX \(65536\)/],
    ['PARLEY_HTTP_PORT', '1883', /PARLEY_MQTT_PORT and PARLEY_HTTP_PORT are both 1883/],
    ['PARLEY_MQTT_PORT', 'off', /is off: that needs PARLEY_TLS_CERT and PARLEY_TLS_KEY/],
    ['PARLEY_MQTTS_PORT', 'off', /0 to 65535/],
    ['PARLEY_TLS_CERT', './no/such/cert.pem', /set without PARLEY_TLS_KEY/],
    ['PARLEY_TLS_KEY', './no/such/key.pem', /set without PARLEY_TLS_CERT/],
  ]
  for (const [name, value, allowed] of faulty) t.match(faults({ [name]: value }), [allowed], `${name}=${value}`)
})

t.test('with a certificate there are three ports, and the plain one can be off', async (t) => {
  const { cert, key } = makeCertificate()
  const dir = t.testdir({ cert, key })
  const tls = { PARLEY_TLS_CERT: join(dir, 'cert'), PARLEY_TLS_KEY: join(dir, 'key') }
  const config = readConfig({ ...tls, PARLEY_MQTT_PORT: 'off' })
  t.match(config, { mqttPort: undefined, mqttsPort: 8883, tlsCert: join(dir, 'cert'), tlsKey: join(dir, 'key') })
  t.match(describeConfig(config), /^PARLEY_MQTT_PORT=off$/m)
  t.match(describeConfig(config), new RegExp(`^PARLEY_TLS_KEY=${join(dir, 'key')}$`, 'm'))
  t.same(readConfig({}, config), config)
  t.match(faults({ ...tls, PARLEY_MQTTS_PORT: '8080' }), [/PARLEY_MQTTS_PORT and PARLEY_HTTP_PORT are both 8080/])
  t.match(faults({ ...tls, PARLEY_MQTTS_PORT: '1883', PARLEY_HTTP_PORT: '1883' }), [
    /MQTT_PORT and .*MQTTS/,
    /MQTT_PORT and .*HTTP/,
    /MQTTS_PORT and/,
  ])
  t.same(faults({ ...tls, PARLEY_MQTTS_PORT: '0', PARLEY_MQTT_PORT: '0', PARLEY_HTTP_PORT: '0' }), [])
  t.same(faults({ PARLEY_MQTTS_PORT: '8080' }), [], 'without a certificate nobody listens there')
  t.match(faults({ ...tls, PARLEY_TLS_KEY: join(dir, 'none'), PARLEY_WINDOW: '0' }), [
    /PARLEY_WINDOW/,
    /PARLEY_TLS_KEY is ".*none": .*ENOENT/,
  ])
})

t.test('rules for topics are checked', async (t) => {
  const faulty: [unknown, RegExp][] = [
    ['{', /is not JSON/],
    [{}, /a JSON list/],
    [[{ topic: 1 }], /at \/0\/topic: must be string/],
    [[{ publish: true }], /must have required properties topic/],
    [[{ topic: 'a', publsh: true }], /must not have additional properties \(publsh\)/],
    [[{ topic: 'a', publish: 'yes' }], /at \/0\/publish: must be boolean/],
    [[{ topic: '' }], /at \/0\/topic/],
    [[{ topic: 'a/#/b' }], /rule 0 \("a\/#\/b"\): # must be a whole level and the last one/],
    [[{ topic: 'a#' }], /# must be a whole level/],
    [[{ topic: 'ok' }, { topic: 'a+/b' }], /rule 1 .*\+ must be a whole level/],
    [[{ topic: 'x/{device}' }], /{user} is the only placeholder/],
    [[{ topic: 'x/a{user}' }], /must be a whole level/],
    [[{ topic: '$SYS/#' }], /\$ belong to no application/],
    [[{ topic: 'u/#' }], /under u\/ are chat/],
    [[{ topic: 'g/+/msg' }], /under g\/ are chat/],
    [[{ topic: 'rpc/x' }], /under rpc\/ are chat/],
  ]
  for (const [rules, expected] of faulty) {
    const text = typeof rules === 'string' ? rules : JSON.stringify(rules)
    t.match(faults({ PARLEY_TOPICS: text }), [expected], text)
  }
  const many = Array.from({ length: 201 }, () => ({ topic: 'a' }))
  t.match(faults({}, { topics: many }), [/PARLEY_TOPICS/])
  t.same(faults({ PARLEY_TOPICS: '[{"topic":"test/nosubscribe","publish":true},{"topic":"#","publish":true,"subscribe":true}]' }), [])
})

t.test('beyond loopback somebody must have chosen the secret', async (t) => {
  for (const host of ['0.0.0.0', '::', '192.168.1.5', 'chat.example.org', '127.example.org']) {
    t.match(faults({ PARLEY_HOST: host }), [/others can reach: set PARLEY_JWT_SECRET/], host)
    t.same(faults({ PARLEY_HOST: host, PARLEY_JWT_SECRET: secret }), [], host)
  }
  for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) t.same(faults({ PARLEY_HOST: host }), [], host)
  t.same(faults({ PARLEY_HOST: '0.0.0.0', PARLEY_JWKS_URL: 'https://issuer.example/jwks' }), [])
  t.match(faults({ PARLEY_JWT_SECRET: secret, PARLEY_JWKS_URL: 'https://issuer.example/jwks' }), [/only one of/])
})

t.test('a public key is given as PEM or as a file', async (t) => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const file = join(t.testdir({ 'key.pem': pem(ec.publicKey) }), 'key.pem')
  t.equal(readConfig({ PARLEY_JWT_PUBLIC_KEY: file }).jwtPublicKey, pem(ec.publicKey))
  t.match(readConfig({ PARLEY_JWT_PUBLIC_KEY: pem(ec.publicKey).replaceAll('\n', '\\n') }).jwtPublicKey, /BEGIN PUBLIC KEY-----\n/)
  t.same(faults({ PARLEY_JWT_PUBLIC_KEY: pem(generateKeyPairSync('ed25519').publicKey) }), [])
  t.match(faults({ PARLEY_JWT_PUBLIC_KEY: pem(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey) }), [/only P-256/])
  t.match(faults({ PARLEY_JWT_PUBLIC_KEY: pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey) }), [/1024 bits/])
  const mistaken = ec.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
  const report = faults({ PARLEY_JWT_PUBLIC_KEY: mistaken }).join()
  t.match(report, /this is a private key/)
  t.notOk(report.includes(mistaken.split('\n')[1] ?? 'no key'), 'the key is not shown')
  t.match(faults({ PARLEY_JWT_SECRET: pem(ec.publicKey) }), [/PEM key, which is no secret/])
})

t.test('the effective settings are shown without secrets', async (t) => {
  const text = describeConfig(readConfig({ PARLEY_JWT_SECRET: secret, PARLEY_WINDOW: '9' }))
  t.equal(text.split('\n').length, table.length)
  t.match(text, /^PARLEY_WINDOW=9$/m)
  t.match(text, /^PARLEY_RATE_LIMIT=100\/s burst 1000$/m)
  t.match(text, /^PARLEY_JWT_SECRET=\(hidden\)$/m)
  t.match(text, /^# PARLEY_JWKS_URL is not set$/m)
  t.notMatch(text, secret)
})

t.test('docs/configuration.md has the table of the code', async (t) => {
  const shown = (setting: Setting<unknown>) => (setting.default === undefined ? '–' : `\`${setting.print(setting.default)}\``)
  const rows = table.map(([name, setting]) => {
    const fallback = shown(setting) === '``' ? '–' : shown(setting)
    return `| \`${setting.env}\` | \`${name}\` | ${fallback} | ${setting.unit} | ${setting.allowed.replaceAll('|', ' or ')} | ${setting.description} |`
  })
  const names = new Set(table.map(([name]) => `\`${name}\``))
  const documented = readFileSync('docs/configuration.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `PARLEY_') && names.has(line.split(' | ')[1] ?? ''))
  t.same(documented, rows)
})

t.test('the generated secret is made once, for its owner only', async (t) => {
  const dir = join(t.testdir(), 'deep', 'data')
  const first = loadSecret(dir)
  t.ok(first.created)
  t.ok(Buffer.from(first.secret, 'base64url').length >= 32)
  t.equal(statSync(first.path).mode & 0o777, 0o600)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  t.same(loadSecret(dir), { ...first, created: false })
  t.same(readdirSync(dir), ['jwt-secret'], 'no draft is left')
  t.not(loadSecret(join(dir, 'other')).secret, first.secret)
})

t.test('a secret that others can read, or a broken one, is refused', async (t) => {
  const dir = t.testdir()
  const path = join(dir, 'jwt-secret')
  for (const mode of [0o640, 0o604]) {
    writeFileSync(path, secret, { mode })
    t.throws(() => loadSecret(dir), { name: 'SecretError', message: /jwt-secret can be read by others \(mode 6[40][40]\).*chmod 600/ })
    const { chmodSync, unlinkSync } = await import('node:fs')
    chmodSync(path, 0o600)
    t.equal(loadSecret(dir).secret, secret)
    unlinkSync(path)
  }
  writeFileSync(path, '\n', { mode: 0o600 })
  t.throws(() => loadSecret(dir), { message: /fewer than 32 bytes/ })
  const occupied = join(t.testdir({ file: '' }), 'file')
  t.throws(() => loadSecret(occupied), SecretError)
  t.ok(existsSync(occupied))
  mkdirSync(join(dir, 'x', 'jwt-secret'), { recursive: true })
  t.throws(() => loadSecret(join(dir, 'x')), SecretError)
})

t.test('the log is JSON lines without tokens and payloads', async (t) => {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const logger = createLogger('info', stream)
  logger.debug('not shown')
  logger.info({ token: 'T0P', caller: { password: 'T0P' }, req: { headers: { authorization: 'T0P' } }, packet: { payload: 'T0P' } }, 'a\nb')
  t.equal(lines.length, 1)
  t.match(JSON.parse(lines[0] ?? ''), { level: 'info', msg: 'a\nb', token: '(hidden)', time: /^\d{4}-/ })
  t.notMatch(lines[0], 'T0P')
})

t.test('rules of wrong shape and rules with wrong topics are told together', async (t) => {
  const rules = [{ topic: 'a', publish: 'yes' }, { topic: 'b/#/c' }, { topic: 'u/x' }, 7]
  t.throws(() => readConfig({ PARLEY_TOPICS: JSON.stringify(rules) }), {
    message: /at \/0\/publish[\s\S]*rule 1 \("b\/#\/c"\): # must[\s\S]*rule 2 \("u\/x"\): topics under u/,
  })
})
