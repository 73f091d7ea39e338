/** A load message is read back from whatever a broker makes of it, and an ack that is not plainly positive is noticed. */
import t from 'tap'
import { FrameReader } from '../loadtest/frames.js'
import { AckReader, bodyBytesMin, DeliveryReader, elapsedMicros, MessageTemplate, stampNow } from '../loadtest/stamp.js'

function payloadOf(template: MessageTemplate, number: number, now: number): { payload: string; packetId: number; topic: string } {
  const bytes = Buffer.alloc(template.bytes + 3, 0xee)
  const end = template.write(bytes, 3, number, 700, now)
  t.equal(end, bytes.length)
  let result = { payload: '', packetId: 0, topic: '' }
  const frame = (_head: number, body: Buffer, start: number, stop: number): void => {
    const topicEnd = start + 2 + body.readUInt16BE(start)
    result = {
      topic: body.toString('utf8', start + 2, topicEnd),
      packetId: body.readUInt16BE(topicEnd),
      payload: body.toString('utf8', topicEnd + 2, stop),
    }
  }
  new FrameReader().push(bytes.subarray(3), template.bytes, { frame })
  return result
}

t.test('a template gives valid messages of the wanted length', async (t) => {
  const template = new MessageTemplate('u/bob/msg', 42, 100)
  const { payload, packetId, topic } = payloadOf(template, 123_456, 987_654_321)
  const message = JSON.parse(payload)
  t.equal(topic, 'u/bob/msg')
  t.equal(packetId, 700)
  t.equal(message.id, 'c000123456')
  t.equal(message.type, 'text')
  t.equal(message.body.length, 100)
  t.equal(JSON.parse(payloadOf(new MessageTemplate('t', 0, bodyBytesMin), 1, 2).payload).body.length, bodyBytesMin)
})

t.test('read back as sent, and from stored messages with any order of fields', async (t) => {
  const { payload } = payloadOf(new MessageTemplate('u/bob/msg', 42, 60), 17, 555)
  const { id, type, body } = JSON.parse(payload)
  const reader = new DeliveryReader('seq')
  const stored = [
    { seq: 9, ts: 1, from: 'a', to: 'b', id, type, body },
    { seq: 1_234_567, ts: 1, from: 'a', to: 'b', id, type, body },
    { id, body, from: 'a', seq: 12, type, ts: 1 },
    { seq: 99, ts: 1, from: 'a', group: 'team', id, type, body },
  ]
  for (const message of stored) {
    const bytes = Buffer.from(`..${JSON.stringify(message)}..`)
    t.equal(reader.read(bytes, 2, bytes.length - 2), true)
    t.match(reader, { sender: 42, number: 17, sentAt: 555, seq: message.seq })
  }
  const plain = Buffer.from(payload)
  t.equal(reader.read(plain, 0, plain.length), true)
  t.match(reader, { sender: 42, number: 17, seq: -1 })
})

t.test('what is not a load message is told apart and keeps its seq', async (t) => {
  const reader = new DeliveryReader('seq')
  const system = Buffer.from('{"seq":1,"ts":5,"group":"team","type":"system","body":{"event":"added"}}')
  t.equal(reader.read(system, 0, system.length), false)
  t.equal(reader.seq, 1)
  const cut = Buffer.from('{"seq":2,"body":"~L00042"}')
  t.equal(reader.read(cut, 0, cut.length), false)
})

function ackOf(reader: AckReader, payload: object): { known: boolean; number: number; seq: number; fault: string | undefined } {
  const bytes = Buffer.from(`#${JSON.stringify(payload)}#`)
  const known = reader.read(bytes, 1, bytes.length - 1)
  return { known, number: reader.number, seq: reader.seq, fault: reader.fault }
}

t.test('acks: positive, refused, answered as a repeat', async (t) => {
  const reader = new AckReader()
  const good = (number: number, seq: number) => ({ id: `c${String(number).padStart(9, '0')}`, conv: 'u/bob', seq, ts: 1_732_340_000_000 })
  for (const [number, seq] of [
    [0, 1],
    [1, 9],
    [2, 10],
    [3, 123_456],
  ] as const) {
    t.same(ackOf(reader, good(number, seq)), { known: true, number, seq, fault: undefined })
  }
  t.match(ackOf(reader, { ...good(4, 5), dup: true }), { known: true, number: 4, fault: /^answered as a repeat/ })
  const error = { code: 'blocked', message: 'no' }
  t.match(ackOf(reader, { id: 'c000000005', topic: 'u/bob/msg', error }), { known: true, number: 5, seq: -1, fault: /^refused/ })
  t.match(ackOf(reader, { topic: 'u/bob/msg', error }), { known: false, fault: /^refused/ })
  t.same(ackOf(reader, good(6, 7)), { known: true, number: 6, seq: 7, fault: undefined })
})

t.test('time is taken modulo 1,000 s', async (t) => {
  t.equal(elapsedMicros(100, 350), 250)
  t.equal(elapsedMicros(999_999_900, 50), 150)
  t.equal(elapsedMicros(350, 349), 0)
  const first = stampNow()
  t.ok(Number.isInteger(first) && first >= 0 && first < 1e9)
})
