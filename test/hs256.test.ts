/** The short way of HS256 says yes to nothing that jose refuses, and judges claims as jose does. */
import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { jwtVerify } from 'jose'
import t from 'tap'
import { type ClaimRules, verifyHs256 } from '../broker/hs256.js'
import { createRandom, newSeed } from './contract/entries.js'

const secret = Buffer.from('a-secret-of-at-least-thirty-two-bytes')
const key = createSecretKey(secret)
const encode = (text: string) => Buffer.from(text).toString('base64url')
const signed = (header: string, claims: string, by = secret) => {
  const text = `${encode(header)}.${encode(claims)}`
  return `${text}.${createHmac('sha256', by).update(text).digest('base64url')}`
}
const plain = '{"alg":"HS256"}'
const nowSeconds = Math.floor(Date.now() / 1000)

t.test('what it accepts says the same to jose', async (t) => {
  for (const header of [plain, '{"alg":"HS256","typ":"JWT"}', '{"typ":"JWT","alg":"HS256"}']) {
    const token = signed(header, JSON.stringify({ sub: 'alice', aud: ['parley'], iss: 'me', iat: nowSeconds, exp: nowSeconds + 60 }))
    const options = { issuer: 'me', audience: 'parley', clockTolerance: 5 }
    t.same(verifyHs256(token, key, options), (await jwtVerify(token, secret, options)).payload)
  }
})

t.test('secrets and tokens of any length', async (t) => {
  for (const length of [1, 31, 32, 63, 64, 65, 200]) {
    const secret = randomBytes(length)
    const [own, other] = [createSecretKey(secret), createSecretKey(randomBytes(length))]
    for (const size of [0, 10, 50, 100, 5_000]) {
      const token = signed(plain, JSON.stringify({ sub: 'x'.repeat(size) }), secret)
      t.match(verifyHs256(token, own, {}), { sub: 'x'.repeat(size) }, `${length} and ${size}`)
      t.equal(verifyHs256(token, other, {}), undefined)
    }
  }
})

t.test('it says nothing of what it does not know as good', async (t) => {
  const good = signed(plain, '{"sub":"alice"}')
  const [header, claims, signature = ''] = good.split('.')
  const strangers = {
    nothing: '',
    dots: '..',
    'no signature': `${header}.${claims}.`,
    'alg none': `${encode('{"alg":"none"}')}.${claims}.`,
    'alg none with the signature': `${encode('{"alg":"none"}')}.${claims}.${signature}`,
    'another secret': signed(plain, '{"sub":"alice"}', Buffer.from('another-secret-of-thirty-two-bytes!!')),
    'other claims': `${header}.${encode('{"sub":"bob"}')}.${signature}`,
    'signature of another length': `${good}A`,
    'signature with letters beyond ASCII': `${header}.${claims}.${'é'.repeat(43)}`,
    'a signed letter beyond ASCII': signed(plain, '{"sub":"alice"}').replace('.', '.\u0141'),
    'a signed crit': signed('{"alg":"HS256","crit":["x"],"x":1}', '{"sub":"alice"}'),
    'a signed b64': signed('{"alg":"HS256","b64":false,"crit":["b64"]}', '{"sub":"alice"}'),
    'a signed alg none': signed('{"alg":"none"}', '{"sub":"alice"}'),
    'a signed other alg': signed('{"alg":"HS512"}', '{"sub":"alice"}'),
  }
  for (const [name, token] of Object.entries(strangers)) t.equal(verifyHs256(token, key, {}), undefined, name)
  for (let at = 0; at < good.length; at++) {
    const changed = `${good.slice(0, at)}${good[at] === 'A' ? 'B' : 'A'}${good.slice(at + 1)}`
    t.equal(verifyHs256(changed, key, {}), undefined, `changed at ${at}`)
  }
})

t.test('a signed token is refused by its claims, each time anew', async (t) => {
  const refuse = (claims: string, why: RegExp, options = {}) =>
    t.throws(() => verifyHs256(signed(plain, claims), key, options), why, claims)
  refuse(JSON.stringify({ exp: nowSeconds - 10 }), /exp/)
  refuse('{"exp":"never"}', /exp/)
  refuse(JSON.stringify({ nbf: nowSeconds + 60 }), /nbf/)
  refuse('{"iss":"other"}', /iss/, { issuer: 'me' })
  refuse('{}', /aud/, { audience: 'parley' })
  refuse('[]', /./)
  refuse('no json', /./)
  const token = signed(plain, JSON.stringify({ sub: 'alice', exp: nowSeconds + 60 }))
  t.match(verifyHs256(token, key, {}), { sub: 'alice' })
  t.throws(
    () => verifyHs256(token, key, { currentDate: new Date((nowSeconds + 61) * 1000) }),
    /exp/,
    'the same token, when its time is over',
  )
})

t.test('it judges claims as jose does, whatever they are', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const pick = <Value>(values: readonly Value[]): Value => values[random(values.length)] as Value
  const values = {
    sub: ['alice', 7, undefined],
    exp: [undefined, nowSeconds + 60, nowSeconds - 2, nowSeconds - 60, nowSeconds + 0.5, 1e12, '9999999999', null],
    nbf: [undefined, undefined, undefined, nowSeconds - 60, nowSeconds + 2, nowSeconds + 60, 'now'],
    iat: [undefined, nowSeconds, nowSeconds + 60, 'now', null],
    iss: [undefined, 'me', 'other', ['me'], 7],
    aud: [undefined, 'parley', 'other', ['parley', 'other'], []],
  }
  let accepted = 0
  for (let round = 0; round < 4_000; round++) {
    const claims = Object.fromEntries(Object.entries(values).map(([name, some]) => [name, pick<unknown>(some)]))
    const text = random(20) === 0 ? pick(['null', '[]', '"x"', '7', '', '{', '\ufeff{}']) : JSON.stringify(claims)
    const rules: ClaimRules = { clockTolerance: pick([0, 5]), currentDate: new Date(nowSeconds * 1000) }
    if (random(3) === 0) rules.issuer = 'me'
    if (random(3) === 0) rules.audience = 'parley'
    const token = signed(plain, text)
    const right = await jwtVerify(token, secret, rules).then(({ payload }) => payload, String)
    let ours: unknown
    try {
      ours = verifyHs256(token, key, rules)
    } catch (error) {
      ours = String(error)
    }
    if (typeof right !== 'string') accepted++
    if (typeof ours !== typeof right || JSON.stringify(ours) !== JSON.stringify(right))
      return t.same(ours, right, `${text} ${JSON.stringify(rules)}`)
  }
  t.ok(accepted > 100 && accepted < 3_900, `${accepted} of 4,000 were good`)
})

t.test('three parts where there should be: a dot in the claims is no way in', async (t) => {
  const text = `${encode(plain)}.${encode('{"sub":"alice"}')}.x`
  const token = `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
  t.equal(verifyHs256(token, key, {}), undefined)
})
