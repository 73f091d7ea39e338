import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { type Config, readConfig } from '../broker/config.js'
import { Refusal } from '../broker/errors.js'
import { createLogger } from '../broker/logger.js'
import type { Identity, PluginServer } from '../broker/plugin.js'
import { loadSecret } from '../broker/secret.js'
import { type Store, StoreUnavailable } from '../broker/store/store.js'
import { mintToken } from '../broker/token.js'
import { auth, type JwksPace } from '../plugins/auth.js'

const secret = 'a-secret-of-at-least-thirty-two-bytes'
const now = () => Math.floor(Date.now() / 1000)
const key = (text: string) => new TextEncoder().encode(text)
const sign = (claims: JWTPayload, by: Uint8Array | KeyObject = key(secret), alg = 'HS256', kid?: string) =>
  new SignJWT(claims).setProtectedHeader(kid === undefined ? { alg } : { alg, kid }).sign(by)
const spki = (publicKey: KeyObject) => publicKey.export({ format: 'pem', type: 'spki' }).toString()

interface SetUp {
  settings?: Partial<Config>
  tokensFrom?: Record<string, number>
  pace?: JwksPace
  down?: boolean
}

function setUp({ settings = { jwtSecret: secret }, tokensFrom = {}, pace, down = false }: SetUp = {}) {
  const log: string[] = []
  const stream = new Writable({
    write(line, _encoding, done) {
      log.push(String(line))
      done()
    },
  })
  const user = async (name: string) => {
    if (down) throw new StoreUnavailable('no disk')
    return tokensFrom[name] === undefined ? undefined : { user: name, createdTs: 1, tokensFrom: tokensFrom[name] }
  }
  const server = {
    config: readConfig({}, settings),
    logger: createLogger('info', stream),
    store: { directory: { user } } as unknown as Store,
  }
  const plugin = pace === undefined ? auth(server as PluginServer) : auth(server as PluginServer, pace)
  const authenticate = async (token: string) => plugin.authenticate?.(token)
  return { authenticate, log }
}

/** Refused, always in the same words; the log says why and never holds the token. */
async function refused(t: Test, { authenticate, log }: ReturnType<typeof setUp>, token: string, why: RegExp, name: string): Promise<void> {
  log.length = 0
  const answer = await authenticate(token)
  t.ok(answer instanceof Refusal, name)
  t.match((answer as Refusal).body?.(), { code: 'forbidden', message: /^the token is not valid$/ }, name)
  const [line = '{}'] = log
  t.match((JSON.parse(line) as { reason: string }).reason, why, name)
  const signature = token.split('.')[2] ?? ''
  if (signature.length > 8) t.notOk(log.join('').includes(signature), 'the token is not in the log')
}

t.test('a token of the secret speaks for its sub', async (t) => {
  const { authenticate } = setUp()
  const issuedAt = now()
  const token = await sign({ sub: 'alice', iat: issuedAt, exp: issuedAt + 60 })
  t.same(await authenticate(token), { user: 'alice', admin: false, issuedAt, expiresTs: (issuedAt + 60) * 1000, isKnown: false })
  t.same(await authenticate(await sign({ sub: 'alice' })), { user: 'alice', admin: false, isKnown: false }, 'exp and iat may be missing')
  const minted = (await authenticate(await mintToken({ secret, user: 'bob', expiresInSeconds: 60 }))) as Identity
  t.match(minted, { user: 'bob', admin: false, expiresTs: Number, issuedAt: Number })
})

t.test('scope makes an admin, as a whole word only', async (t) => {
  const { authenticate } = setUp()
  t.match(await authenticate(await mintToken({ secret, user: 'root', expiresInSeconds: 9, scope: 'admin' })), { user: 'root', admin: true })
  t.match(await authenticate(await mintToken({ secret, user: '', expiresInSeconds: 9, scope: 'admin' })), { user: '', admin: true })
  t.match(await authenticate(await sign({ sub: 'a', scope: 'read admin' })), { admin: true })
  for (const scope of ['administrator', 'not-admin', 'Admin', '', ['admin'], { admin: true }, true]) {
    t.match(await authenticate(await sign({ sub: 'a', scope })), { user: 'a', admin: false }, JSON.stringify(scope))
  }
})

t.test('tokens that are refused', async (t) => {
  const server = setUp()
  const b64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { sub: 'alice' }
  const unsigned = `${b64({ alg: 'none' })}.${b64(claims)}.`
  const good = await sign(claims)
  const [header, , signature] = good.split('.')
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const refusals: [string, string, RegExp][] = [
    ['nothing', '', /Invalid Compact JWS/],
    ['rubbish', 'a.b.c', /./],
    ['alg none', unsigned, /"alg".*not allowed/],
    ['alg none with a signature', unsigned + signature, /"alg".*not allowed/],
    ['other claims under the signature', `${header}.${b64({ sub: 'bob' })}.${signature}`, /signature verification failed/],
    ['another secret', await sign(claims, key('another-secret-of-thirty-two-bytes!!')), /signature verification failed/],
    ['HS512 with the right secret', await sign(claims, key(secret.padEnd(64, 'x')), 'HS512'), /"alg".*not allowed/],
    ['RS256', await sign(claims, privateKey, 'RS256'), /"alg".*not allowed/],
    ['expired', await sign({ ...claims, exp: now() - 10 }), /exp/],
    ['exp is text', await sign({ ...claims, exp: 'never' as unknown as number }), /exp/],
    ['nbf in the future', await sign({ ...claims, nbf: now() + 60 }), /nbf/],
    ['no sub', await sign({}), /no sub/],
    ['sub with a slash', await sign({ sub: 'alice/phone' }), /not a user id/],
    ['sub with a wildcard', await sign({ sub: '+' }), /not a user id/],
    ['sub empty', await sign({ sub: '' }), /not a user id/],
    ['sub too long', await sign({ sub: 'a'.repeat(65) }), /not a user id/],
    ['sub a number', await sign({ sub: 7 as unknown as string }), /not a user id|sub/],
    ['admin with a bad sub', await sign({ sub: 'a/b', scope: 'admin' }), /not a user id/],
    ['too long', await sign({ ...claims, filler: 'x'.repeat(9000) }), /8192 bytes/],
  ]
  for (const [name, token, why] of refusals) await refused(t, server, token, why, name)
  t.match(await server.authenticate(await sign({ ...claims, exp: now() - 1 })), { user: 'alice' }, 'clocks may differ by 5 s')
})

t.test('issuer and audience are checked when configured', async (t) => {
  const server = setUp({ settings: { jwtSecret: secret, jwtIssuer: 'https://issuer.example', jwtAudience: 'parley' } })
  const right = { sub: 'alice', iss: 'https://issuer.example', aud: 'parley' }
  t.match(await server.authenticate(await sign(right)), { user: 'alice' })
  t.match(await server.authenticate(await sign({ ...right, aud: ['x', 'parley'] })), { user: 'alice' })
  const { iss, aud, ...bare } = right
  await refused(t, server, await sign({ ...right, aud: 'other' }), /aud/, 'wrong aud')
  await refused(t, server, await sign({ ...right, iss: 'https://evil.example' }), /iss/, 'wrong iss')
  await refused(t, server, await sign({ ...bare, iss }), /aud/, 'no aud')
  await refused(t, server, await sign({ ...bare, aud }), /iss/, 'no iss')
  const minted = await mintToken({ secret, user: 'bob', expiresInSeconds: 9, issuer: iss, audience: aud })
  t.match(await server.authenticate(minted), { user: 'bob' })
})

t.test('tokens from before a revocation are refused', async (t) => {
  const server = setUp({ tokensFrom: { alice: 1000 } })
  await refused(t, server, await sign({ sub: 'alice', iat: 999 }), /revoked/, 'older')
  await refused(t, server, await sign({ sub: 'alice' }), /no iat/, 'no iat')
  t.match(await server.authenticate(await sign({ sub: 'alice', iat: 1000 })), { user: 'alice' })
  t.match(await server.authenticate(await sign({ sub: 'bob', iat: 1 })), { user: 'bob' })
})

t.test('when the store is away nobody gets in, and the answer says so', async (t) => {
  const server = setUp({ down: true })
  t.match(((await server.authenticate(await sign({ sub: 'alice' }))) as Refusal).body(), { code: 'unavailable' })
  await refused(t, server, 'x.y.z', /./, 'a bad token is refused all the same')
})

t.test('without a secret in the configuration the generated one counts', async (t) => {
  const dataDir = t.testdir()
  const server = setUp({ settings: { dataDir } })
  t.match(await server.authenticate(await sign({ sub: 'alice' }, key(loadSecret(dataDir).secret))), { user: 'alice' })
  await refused(t, server, await sign({ sub: 'alice' }), /signature/, 'another secret')
})

t.test('a public key accepts the one algorithm of its type', async (t) => {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  }
  for (const [alg, { publicKey, privateKey }] of Object.entries(pairs)) {
    const pem = spki(publicKey)
    const server = setUp({ settings: { jwtPublicKey: pem } })
    t.match(await server.authenticate(await sign({ sub: 'alice' }, privateKey, alg)), { user: 'alice' }, alg)
    for (const [other, pair] of Object.entries(pairs)) {
      if (other !== alg)
        await refused(t, server, await sign({ sub: 'alice' }, pair.privateKey, other), /"alg".*not allowed/, `${other} for ${alg}`)
    }
    const signed = `${Buffer.from('{"alg":"HS256"}').toString('base64url')}.${Buffer.from('{"sub":"alice"}').toString('base64url')}`
    const forged = `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`
    await refused(t, server, forged, /"alg".*not allowed/, `HS256 with the ${alg} public key as secret`)
  }
  const stranger = generateKeyPairSync('ed25519')
  const server = setUp({ settings: { jwtPublicKey: spki(pairs.EdDSA.publicKey) } })
  await refused(t, server, await sign({ sub: 'alice' }, stranger.privateKey, 'EdDSA'), /signature/, "a stranger's key")
})

async function issuer(t: Test) {
  const pair = (kid: string) => ({ kid, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) })
  const state = { pairs: [pair('k1')], reads: 0, status: 200 }
  const http = createServer(async (_request, response) => {
    state.reads++
    const keys = await Promise.all(state.pairs.map(async ({ kid, publicKey }) => ({ ...(await exportJWK(publicKey)), kid, alg: 'ES256' })))
    response.writeHead(state.status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }))
  }).listen(0, '127.0.0.1')
  await once(http, 'listening')
  const close = async () => {
    http.closeAllConnections()
    if (http.listening) await new Promise((done) => http.close(done))
  }
  t.teardown(close)
  const jwksUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}/jwks`
  return { state, pair, close, settings: { jwksUrl } }
}

t.test('keys are read from the JWKS URL and may be rotated', async (t) => {
  const { state, pair, settings } = await issuer(t)
  const server = setUp({ settings, pace: { cooldownMs: 0, failureCooldownMs: 0 } })
  const [first] = state.pairs
  if (first === undefined) throw new Error('no key')
  const old = await sign({ sub: 'alice' }, first.privateKey, 'ES256', 'k1')
  t.match(await server.authenticate(old), { user: 'alice' })
  t.match(await server.authenticate(old), { user: 'alice' })
  t.equal(state.reads, 1, 'keys are kept')
  const second = pair('k2')
  state.pairs = [second]
  t.match(await server.authenticate(await sign({ sub: 'bob' }, second.privateKey, 'ES256', 'k2')), { user: 'bob' }, 'the new key is found')
  await refused(t, server, old, /no applicable key|matching key/, 'the old key is gone')
  await refused(t, server, await sign({ sub: 'a' }, first.privateKey, 'ES256', 'k2'), /signature/, 'a known kid with another key')
  await refused(t, server, await sign({ sub: 'a' }, key(secret)), /"alg".*not allowed/, 'HS256')
  const pem = spki(second.publicKey)
  const signed = `${Buffer.from('{"alg":"HS256","kid":"k2"}').toString('base64url')}.${Buffer.from('{"sub":"a"}').toString('base64url')}`
  await refused(
    t,
    server,
    `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`,
    /"alg".*not allowed/,
    'public key as secret',
  )
})

t.test('unknown key ids do not make a storm of reads', async (t) => {
  const { state, pair, settings } = await issuer(t)
  const server = setUp({ settings })
  const stranger = pair('k9')
  for (let n = 0; n < 5; n++) {
    await refused(t, server, await sign({ sub: 'a' }, stranger.privateKey, 'ES256', `k${n + 10}`), /no applicable key/, 'unknown kid')
  }
  t.equal(state.reads, 1)
})

t.test('while the keys cannot be read nobody gets in', async (t) => {
  const { state, settings, close } = await issuer(t)
  const [first] = state.pairs
  if (first === undefined) throw new Error('no key')
  const token = await sign({ sub: 'alice' }, first.privateKey, 'ES256', 'k1')
  const eager = setUp({ settings, pace: { cooldownMs: 0, failureCooldownMs: 0 } })
  const patient = setUp({ settings, pace: { cooldownMs: 0, failureCooldownMs: 3_600_000 } })
  state.status = 500
  await refused(t, eager, token, /answers 500/, 'HTTP 500')
  await refused(t, patient, token, /answers 500/, 'HTTP 500')
  state.status = 200
  t.match(await eager.authenticate(token), { user: 'alice' }, 'back again')
  const { reads } = state
  await refused(t, patient, token, /a moment ago/, 'a failed read is not repeated at once')
  t.equal(state.reads, reads)
  await close()
  await refused(t, setUp({ settings }), token, /fetch failed/, 'nothing listens')
})
