/** Rows on what follows a good CONNECT. */
import * as packets from '../helper/packets.js'
import type { RawClient } from '../helper/raw-client.js'
import type { Expectation, Row } from './malformed-row.js'

const { bytes, hex, packet, packetType, publish, subscribe, text, uint16, unsubscribe } = packets

const row = (name: string, spec: string, content: Row['bytes'], expect: Expectation = 'close', ws?: true): Row => ({
  name,
  spec,
  stage: 'connected',
  bytes: content,
  expect,
  ...(ws ? { ws } : {}),
})

const publishRows: Row[] = [
  row('PUBLISH at QoS 3', 'MQTT-3.3.1-4', publish({ topic: 'a', qos: 3 }), 'close', true),
  row('PUBLISH at QoS 3 with DUP and RETAIN', 'MQTT-3.3.1-4', publish({ topic: 'a', qos: 3, dup: true, retain: true })),
  row('PUBLISH at QoS 0 with DUP', 'MQTT-3.3.1-2', publish({ topic: 'a', dup: true }), 'close', true),
  row('PUBLISH at QoS 1 with packet id 0', 'MQTT-2.3.1-1', publish({ topic: 'a', qos: 1, packetId: 0 }), 'close', true),
  row('PUBLISH at QoS 2 with packet id 0', 'MQTT-2.3.1-1', publish({ topic: 'a', qos: 2, packetId: 0 })),
  row('PUBLISH with an empty topic', 'MQTT-4.7.3-1', publish({ topic: '' })),
  ...['#', '+', 'a/#', '+/a', 'a/+/b', 'a#', 'a+', '/#', '/+'].map((topic) =>
    row(`PUBLISH to ${topic}`, 'MQTT-3.3.2-2', publish({ topic, qos: 1 }), 'close', topic === 'a/#' ? true : undefined),
  ),
  row('PUBLISH of no bytes', 'MQTT-3.3.2-1', packet(3, 0)),
  row('PUBLISH of one byte', 'MQTT-3.3.2-1', packet(3, 0, 0)),
  row('PUBLISH with a topic over the end of the packet', 'MQTT-3.3.2-1', packet(3, 0, uint16(9), 'short')),
  row('PUBLISH at QoS 1 without packet id', 'MQTT-2.3.1-1', packet(3, 2, text('a'))),
  row('PUBLISH at QoS 1 with half a packet id', 'MQTT-2.3.1-1', packet(3, 2, text('a'), 1)),
  row('PUBLISH of nothing', 'section 3.3.3', publish({ topic: 'a', qos: 1 }), 'answer puback'),
  row('PUBLISH to __proto__', 'section 3.3.2', publish({ topic: '__proto__', qos: 1 }), 'answer puback'),
  row(
    'PUBLISH to constructor/prototype',
    'section 3.3.2',
    publish({ topic: 'constructor/prototype', qos: 1, retain: true }),
    'answer puback',
  ),
  row('PUBLISH to 65,535 bytes of /', 'section 4.7.3', publish({ topic: '/'.repeat(65_535) }), 'any'),
  row('PUBLISH to 65,535 letters', 'section 4.7.3', publish({ topic: 'a'.repeat(65_535) }), 'any'),
  row('PUBLISH to $SYS', 'section 4.7.2', publish({ topic: '$SYS/x/new/clients', payload: 'm', qos: 1 }), 'any'),
]

const badFilters = ['', 'a#', '#a', '+a', 'a+', 'a+/b', 'a/+b', '#/a', 'a/#/b', '##', '++', 'a/##', '/#a', '#/#', '+#', '#+']

const subscribeRows: Row[] = [
  ...[0, 1, 3, 4, 6, 10, 15].map((flags) =>
    row(
      `SUBSCRIBE with flags ${flags}`,
      'MQTT-3.8.1-1',
      packet(8, flags, uint16(1), text('a'), 0),
      'close',
      flags === 0 ? true : undefined,
    ),
  ),
  row('SUBSCRIBE with packet id 0', 'MQTT-2.3.1-1', subscribe(0, ['a', 0]), 'close', true),
  row('SUBSCRIBE without filters', 'MQTT-3.8.3-3', subscribe(1), 'close', true),
  row('SUBSCRIBE of no bytes', 'MQTT-3.8.3-3', packet(8, 2)),
  row('SUBSCRIBE of one byte', 'MQTT-3.8.3-3', packet(8, 2, 1)),
  row('SUBSCRIBE without a QoS', 'MQTT-3.8.3-3', packet(8, 2, uint16(1), text('a'))),
  row('SUBSCRIBE with a second filter without a QoS', 'MQTT-3.8.3-3', packet(8, 2, uint16(1), text('a'), 0, text('b'))),
  row('SUBSCRIBE with a filter over the end of the packet', 'MQTT-3.8.3-1', packet(8, 2, uint16(1), uint16(9), 'short', 0)),
  row('SUBSCRIBE with half a length', 'MQTT-3.8.3-1', packet(8, 2, uint16(1), text('a'), 0, 0)),
  ...[3, 4, 8, 0x10, 0x40, 0x80, 0xfc, 0xff].map((qos) =>
    row(`SUBSCRIBE with QoS byte ${qos}`, 'MQTT-3.8.3-4', subscribe(1, ['a', qos]), 'close', qos === 3 ? true : undefined),
  ),
  row('SUBSCRIBE with QoS 3 on its second filter', 'MQTT-3.8.3-4', subscribe(1, ['a', 0], ['b', 3])),
  ...badFilters.map((filter) =>
    row(`SUBSCRIBE to "${filter}"`, filter === '' ? 'MQTT-4.7.3-1' : 'MQTT-4.7.1-2, MQTT-4.7.1-3', subscribe(1, [filter, 0])),
  ),
  row('SUBSCRIBE to a good filter and to a#', 'MQTT-4.7.1-2', subscribe(1, ['good', 0], ['a#', 0])),
  row('SUBSCRIBE to __proto__', 'section 4.7', subscribe(1, ['__proto__', 0], ['constructor', 0]), 'answer suback'),
  row('SUBSCRIBE to characters of glob patterns', 'section 4.7', subscribe(1, ['a/*/[b]/?', 0]), 'answer suback'),
  row('SUBSCRIBE to 65,535 bytes of /', 'section 4.7.3', subscribe(1, ['/'.repeat(65_535), 0]), 'any'),
  row('SUBSCRIBE to 32,767 levels of +', 'section 4.7.3', subscribe(1, [`${'+/'.repeat(32_766)}+`, 0]), 'any'),
  row(
    'SUBSCRIBE to 5,000 filters',
    'section 3.8.3',
    subscribe(1, ...Array.from({ length: 5_000 }, (_, at): packets.Asked => [`f${at}`, 0])),
    'any',
  ),
]

const unsubscribeRows: Row[] = [
  ...[0, 1, 3, 10, 15].map((flags) => row(`UNSUBSCRIBE with flags ${flags}`, 'MQTT-3.10.1-1', packet(10, flags, uint16(1), text('a')))),
  row('UNSUBSCRIBE with packet id 0', 'MQTT-2.3.1-1', unsubscribe(0, 'a'), 'close', true),
  row('UNSUBSCRIBE without filters', 'MQTT-3.10.3-2', unsubscribe(1), 'close', true),
  row('UNSUBSCRIBE of no bytes', 'MQTT-3.10.3-2', packet(10, 2)),
  row('UNSUBSCRIBE with a filter over the end of the packet', 'MQTT-3.10.3-1', packet(10, 2, uint16(1), uint16(9), 'short')),
  row('UNSUBSCRIBE with half a length', 'MQTT-3.10.3-1', packet(10, 2, uint16(1), text('a'), 0)),
  ...badFilters.map((filter) =>
    row(`UNSUBSCRIBE from "${filter}"`, filter === '' ? 'MQTT-4.7.3-1' : 'MQTT-4.7.1-2, MQTT-4.7.1-3', unsubscribe(1, filter)),
  ),
]

const ackTypes = ['puback', 'pubrec', 'pubrel', 'pubcomp'] as const

const ackRows: Row[] = ackTypes.flatMap((name): Row[] => {
  const type = packetType[name]
  const right = name === 'pubrel' ? 2 : 0
  const spec = name === 'pubrel' ? 'MQTT-3.6.1-1' : 'MQTT-2.2.2-2'
  const title = name.toUpperCase()
  return [
    ...[0, 1, 2, 3, 8, 15]
      .filter((flags) => flags !== right)
      .map((flags) => row(`${title} with flags ${flags}`, spec, packet(type, flags, uint16(9)), 'close', flags === 0 ? true : undefined)),
    ...[0, 1, 3, 4].map((length) =>
      row(
        `${title} of ${length} bytes`,
        'section 3.4 to 3.7',
        packet(type, right, Buffer.alloc(length, 1)),
        'close',
        length === 3 ? true : undefined,
      ),
    ),
    row(`${title} with packet id 0`, 'section 2.3.1', packet(type, right, uint16(0)), 'any'),
  ]
})

const unknownIdRows: Row[] = [
  row('PUBACK of an id that the server did not send', 'section 3.4', packets.puback(77), 'ignore'),
  row('PUBCOMP of an id that the server did not send', 'section 3.7', packets.pubcomp(77), 'ignore'),
  row('PUBREC of an id that the server did not send', 'section 3.5', packets.pubrec(77), 'any'),
  row('PUBREL of an id that the server does not know', 'MQTT-4.3.3-2', packets.pubrel(77), 'answer pubcomp'),
]

const answers = { puback: packets.puback, pubrec: packets.pubrec, pubcomp: packets.pubcomp }

/** Answers a message that the server sent at this QoS with another packet than the one that is due. */
const wrongAnswer = (qos: 1 | 2, name: keyof typeof answers, spec: string): Row =>
  row(
    `${name.toUpperCase()} for a message of QoS ${qos}`,
    spec,
    async (client: RawClient) => {
      const topic = `wrong/${name}/${qos}/${Math.random().toString(36).slice(2)}`
      await client.subscribe([topic, qos])
      await client.publish(topic, 'm', { qos })
      const { messageId = 0 } = await client.message(topic)
      return answers[name](messageId)
    },
    'close',
  )

const wrongAnswerRows: Row[] = [
  wrongAnswer(1, 'pubrec', 'MQTT-4.3.2-2, MQTT-4.8.0-1'),
  wrongAnswer(1, 'pubcomp', 'MQTT-4.3.2-2, MQTT-4.8.0-1'),
  wrongAnswer(2, 'puback', 'MQTT-4.3.3-2, MQTT-4.8.0-1'),
  wrongAnswer(2, 'pubcomp', 'MQTT-4.3.3-2, MQTT-4.8.0-1'),
]

const otherRows: Row[] = [
  row('CONNACK', 'MQTT-4.8.0-1', packet(2, 0, 0, 0), 'close', true),
  row('SUBACK', 'MQTT-4.8.0-1', packet(9, 0, uint16(1), 0)),
  row('UNSUBACK', 'MQTT-4.8.0-1', packet(11, 0, uint16(1))),
  row('PINGRESP', 'MQTT-4.8.0-1', packet(13, 0)),
  row('type 0', 'section 2.2.1', packet(0, 0), 'close', true),
  row('type 15', 'section 2.2.1', packet(15, 0), 'close', true),
  row('a second CONNECT', 'MQTT-3.1.0-2', packets.connect({ clientId: 'badsecond' })),
  row('a second CONNECT that is malformed', 'MQTT-3.1.0-2', packets.connect({ clientId: 'badsecond', protocolName: 'X' })),
  ...[1, 2, 8, 15].map((flags) => row(`PINGREQ with flags ${flags}`, 'MQTT-2.2.2-2', packet(12, flags))),
  row('PINGREQ of one byte', 'section 3.12', packet(12, 0, 0)),
  row('DISCONNECT with flags 1', 'MQTT-3.14.1-1', packet(14, 1)),
  row('DISCONNECT of one byte', 'section 3.14', packet(14, 0, 0)),
  row('remaining length of five bytes', 'section 2.2.3', hex('30 ff ff ff ff 01')),
  row('a good packet and a malformed one in one segment', 'MQTT-4.8.0-1', bytes(packets.pingreq, packet(0, 0))),
  row(
    'UNSUBSCRIBE whose remaining length has two needless bytes',
    'section 2.2.3',
    bytes(0xa2, hex('85 80 00'), uint16(1), text('a')),
    'answer unsuback',
  ),
  row(
    'PUBLISH whose remaining length has a needless byte',
    'section 2.2.3',
    bytes(0x32, 0x85, 0x00, text('a'), uint16(1)),
    'answer puback',
  ),
]

export const packetRows: Row[] = [
  ...publishRows,
  ...subscribeRows,
  ...unsubscribeRows,
  ...ackRows,
  ...unknownIdRows,
  ...wrongAnswerRows,
  ...otherRows,
]
