/** The short way of HS256 says yes to nothing that jose refuses, and judges claims as jose does. */
import { createHmac, createSecretKey } from 'node:crypto'
import { jwtVerify } from 'jose'
import t from 'tap'
import { verifyHs256 } from '../broker/hs256.js'

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

t.test('three parts where there should be: a dot in the claims is no way in', async (t) => {
  const text = `${encode(plain)}.${encode('{"sub":"alice"}')}.x`
  const token = `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
  t.throws(() => verifyHs256(token, key, {}), /Invalid Unsecured JWT/)
})
