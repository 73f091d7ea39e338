/** Rows on strings: what is not UTF-8, U+0000, and what a careful server does not let through, in every field that is a string. */
import * as packets from '../helper/packets.js'
import type { Expectation, Row } from './malformed-row.js'

interface BadText {
  name: string
  content: Buffer
  spec: string
  /** Whether the text says MUST close, or leaves it to the server, which here has to refuse all the same. */
  rule: 'must' | 'may'
}

const bad = (name: string, digits: string, spec: string, rule: 'must' | 'may'): BadText => ({
  name,
  content: packets.bytes('a', packets.hex(digits), 'b'),
  spec,
  rule,
})

/** A sequence that the end of the string cuts off. */
const cut = (name: string, digits: string): BadText => ({
  name,
  content: packets.bytes('a', packets.hex(digits)),
  spec: 'MQTT-1.5.3-1',
  rule: 'must',
})

const texts: BadText[] = [
  bad('U+0000', '00', 'MQTT-1.5.3-2', 'must'),
  bad('U+D800', 'ed a0 80', 'MQTT-1.5.3-1', 'must'),
  bad('U+DFFF', 'ed bf bf', 'MQTT-1.5.3-1', 'must'),
  bad('a pair of surrogates', 'ed a0 bd ed b8 80', 'MQTT-1.5.3-1', 'must'),
  bad('overlong U+0000', 'c0 80', 'MQTT-1.5.3-1', 'must'),
  bad('overlong / of two bytes', 'c0 af', 'MQTT-1.5.3-1', 'must'),
  bad('overlong / of three bytes', 'e0 80 af', 'MQTT-1.5.3-1', 'must'),
  bad('overlong / of four bytes', 'f0 80 80 af', 'MQTT-1.5.3-1', 'must'),
  bad('a continuation byte alone', '80', 'MQTT-1.5.3-1', 'must'),
  bad('the byte FE', 'fe', 'MQTT-1.5.3-1', 'must'),
  bad('the byte FF', 'ff', 'MQTT-1.5.3-1', 'must'),
  bad('a code point over U+10FFFF', 'f4 90 80 80', 'MQTT-1.5.3-1', 'must'),
  bad('a sequence of five bytes', 'f8 88 80 80 80', 'MQTT-1.5.3-1', 'must'),
  cut('a first byte of two at the end', 'c3'),
  cut('two bytes of three at the end', 'e2 82'),
  cut('three bytes of four at the end', 'f0 9f 98'),
  bad('U+0001', '01', 'section 1.5.3', 'may'),
  bad('U+001F', '1f', 'section 1.5.3', 'may'),
  bad('U+007F', '7f', 'section 1.5.3', 'may'),
  bad('U+0080', 'c2 80', 'section 1.5.3', 'may'),
  bad('U+009F', 'c2 9f', 'section 1.5.3', 'may'),
  bad('U+FFFF', 'ef bf bf', 'section 1.5.3', 'may'),
  bad('U+FFFE', 'ef bf be', 'section 1.5.3', 'may'),
  bad('U+FDD0', 'ef b7 90', 'section 1.5.3', 'may'),
  bad('U+1FFFF', 'f0 9f bf bf', 'section 1.5.3', 'may'),
]

interface Field {
  field: string
  stage: Row['stage']
  packetWith(content: Buffer): Buffer
}

const fields: Field[] = [
  { field: 'topic', stage: 'connected', packetWith: (topic) => packets.publish({ topic, payload: 'm', qos: 1 }) },
  { field: 'filter', stage: 'connected', packetWith: (filter) => packets.subscribe(1, [filter, 0]) },
  { field: 'second filter', stage: 'connected', packetWith: (filter) => packets.subscribe(1, ['good', 0], [filter, 0]) },
  { field: 'filter of UNSUBSCRIBE', stage: 'connected', packetWith: (filter) => packets.unsubscribe(1, filter) },
  { field: 'client id', stage: 'first', packetWith: (clientId) => packets.connect({ clientId }) },
  { field: 'user name', stage: 'first', packetWith: (username) => packets.connect({ clientId: 'baduser', username }) },
  { field: 'will topic', stage: 'first', packetWith: (topic) => packets.connect({ clientId: 'badwill', will: { topic, payload: 'm' } }) },
]

const expectationOf = (rule: 'must' | 'may', stage: Row['stage']): Expectation => (rule === 'may' && stage === 'first' ? 'refuse' : 'close')

export const textRows: Row[] = fields.flatMap(({ field, stage, packetWith }) =>
  texts.map(
    ({ name, content, spec, rule }): Row => ({
      name: `${field} with ${name}`,
      spec,
      stage,
      bytes: packetWith(content),
      expect: expectationOf(rule, stage),
      ...(name === 'U+0000' ? { ws: true } : {}),
    }),
  ),
)

/** What looks odd and is legal. */
export const legalTextRows: Row[] = ['öß', '日本', '\u{1f989}', '\uFEFFa', '\uFFFD', '\u{10FFFD}', '\u00A0', '\uD7FF\uE000'].flatMap(
  (content): Row[] => {
    const points = [...content].map((each) => `U+${each.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`).join(' ')
    return [
      {
        name: `topic with ${points}`,
        spec: 'MQTT-1.5.3-3',
        stage: 'connected',
        bytes: packets.publish({ topic: `legal/${content}`, qos: 1 }),
        expect: 'answer puback',
      },
      {
        name: `filter with ${points}`,
        spec: 'MQTT-1.5.3-3',
        stage: 'connected',
        bytes: packets.subscribe(1, [`legal/${content}/+`, 0]),
        expect: 'answer suback',
      },
    ]
  },
)
