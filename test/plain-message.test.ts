/** What is recognised in its bytes is what decoding and encoding give, for payloads that are nearly right in every way. */
import t from 'tap'
import { Refusal } from '../broker/errors.js'
import { type Message, parseInFull, parseMessage } from '../broker/payloads.js'
import { plainMessageOf } from '../broker/plain-message.js'
import { createRandom, newSeed } from './contract/entries.js'

type Random = (below: number) => number

function outcome(parse: (payload: Buffer) => Message, payload: Buffer): string {
  try {
    const { id, type, target, json } = parse(payload)
    return JSON.stringify([id, type, target, json.toString('latin1')])
  } catch (error) {
    if (error instanceof Refusal) return `refused ${error.code}: ${error.message}`
    throw error
  }
}

const ids = [
  'a',
  'c1',
  'x'.repeat(64),
  'x'.repeat(65),
  'ä',
  ' ',
  '',
  'a"b',
  'a\\b',
  '\u0000',
  '😀',
  '😀'.repeat(64),
  '\u007f',
  '{}',
  "'",
  'a,b',
]
const bodies = [
  '',
  'hello',
  'ä€😀',
  '"',
  '\\',
  '\n',
  '\u0000',
  '\u007f',
  '\u2028\u2029',
  '\ufeff',
  '\ufffe',
  '{"id":"x"}',
  'a'.repeat(3_000),
  '\u0080',
  '</script>',
  '"}',
]
const values = ['1', 'null', 'true', '{}', '[]', '["a"]', '{"a":"b"}', '1e400', '"text"', '-0', '""']
const breakages = [0xff, 0x80, 0xc0, 0xed, 0xf5, 0x00, 0x1f, 0x22, 0x5c, 0x7b, 0x7d, 0x20, 0x2c, 0x3a, 0x0a, 0x7f]

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)] as T

/** A string of JSON, written in one of the ways in which it can be. */
function quoted(random: Random, text: string): string {
  const json = JSON.stringify(text)
  const kind = random(6)
  if (kind === 0)
    return json.replace(/[^"\\]/g, (char) => (random(4) === 0 ? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}` : char))
  if (kind === 1) return json.replaceAll('/', '\\/')
  return kind === 2 ? `"${text}"` : json
}

function fieldsOf(random: Random): string[] {
  const spaced = pick(random, [':', ':', ': ', ' :', ' : ', ':\t'])
  const field = (name: string, value: string) =>
    `${pick(random, [`"${name}"`, `"${name}"`, `"${name}"`, `"\\u0069${name.slice(1)}"`])}${spaced}${value}`
  const fields: string[] = []
  const id = () => field('id', random(12) === 0 ? pick(random, values) : quoted(random, pick(random, ids)))
  const body = () => field('body', random(12) === 0 ? pick(random, values) : quoted(random, pick(random, bodies)))
  if (random(10) > 0) fields.push(id())
  if (random(2) === 0)
    fields.push(field('type', pick(random, ['"text"', '"text"', '"text"', '"image"', '"x-a"', '"system"', '"Text"', '1', '"te\\u0078t"'])))
  if (random(15) > 0) fields.push(body())
  if (random(10) === 0)
    fields.push(
      pick(random, [id(), body(), field('re', pick(random, values)), field('meta', '{"a":1}'), field('extra', '1'), '"__proto__":{}']),
    )
  if (random(10) === 0) fields.reverse()
  return fields
}

/** As a library writes it, with strings of every kind. */
function usualOf(random: Random): Buffer {
  const [colon, comma] = random(2) === 0 ? [':', ','] : [': ', ', ']
  const type = random(2) === 0 ? '' : `"type"${colon}"text"${comma}`
  const id = random(2) === 0 ? `m${random(1_000)}` : pick(random, ids)
  return Buffer.from(`{"id"${colon}${JSON.stringify(id)}${comma}${type}"body"${colon}${JSON.stringify(pick(random, bodies))}}`)
}

function payloadOf(random: Random): Buffer {
  if (random(3) === 0) return usualOf(random)
  const comma = pick(random, [',', ',', ', ', ', ', ' ,', ',\n'])
  const [before, open, close, after] = ['', '{', '}', ''].map((text) =>
    random(25) === 0 ? `${pick(random, [' ', '\n', '\ufeff', '}'])}${text}` : text,
  )
  const bytes = Buffer.from(`${before}${open}${fieldsOf(random).join(comma)}${close}${after}`)
  const kind = random(8)
  if (kind === 0) return bytes.subarray(0, random(bytes.length + 1))
  if (kind === 1 && bytes.length > 0) bytes[random(bytes.length)] = pick(random, breakages)
  if (kind === 2) return Buffer.concat([bytes, Buffer.of(pick(random, breakages))])
  return bytes
}

t.test('the same as in full, for payloads at random', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  let plain = 0
  for (let i = 0; i < 40_000; i++) {
    const payload = payloadOf(random)
    const copy = Buffer.from(payload)
    if (plainMessageOf(payload) !== undefined) plain++
    const found = outcome(parseMessage, payload)
    const expected = outcome(parseInFull, payload)
    if (found !== expected) return t.equal(found, expected, payload.toString('latin1'))
    if (!payload.equals(copy)) return t.fail('the payload was changed')
  }
  t.ok(plain > 2_000, `${plain} were plain`)
})

t.test('a good one cut off, and with each byte changed', async (t) => {
  for (const text of [
    '{"id":"c1","type":"text","body":"héllo"}',
    '{"id": "c1", "type": "text", "body": "héllo"}',
    '{"id":"c1","body":"€"}',
    '{"id": "c1", "body": "x"}',
  ]) {
    const whole = Buffer.from(text)
    t.ok(plainMessageOf(whole), text)
    for (let at = 0; at <= whole.length; at++) {
      const cut = whole.subarray(0, at)
      t.equal(outcome(parseMessage, cut), outcome(parseInFull, cut), `${at} bytes`)
      for (const byte of at < whole.length ? breakages : []) {
        const changed = Buffer.from(whole)
        changed[at] = byte
        if (outcome(parseMessage, changed) !== outcome(parseInFull, changed)) t.fail(changed.toString('latin1'))
      }
    }
  }
})

t.test('what is stored of it is JSON again', async (t) => {
  for (const [id, body] of [
    ['c1', 'hello'],
    [' ~', 'ä\u2028\u007f'],
    ['x'.repeat(64), ''],
  ] as const) {
    for (const payload of [
      JSON.stringify({ id, type: 'text', body }),
      JSON.stringify({ id, body }),
      `{"id": "${id}", "body": "${body}"}`,
    ]) {
      const found = plainMessageOf(Buffer.from(payload))
      t.equal(found?.id, id)
      t.same(JSON.parse(`{${found?.json}}`), { id, type: 'text', body })
    }
  }
})
