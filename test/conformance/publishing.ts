/** Cases on PUBLISH: the three qualities of service, duplicates, order and sizes. */
import * as packets from '../helper/packets.js'
import type { RawClient } from '../helper/raw-client.js'
import { brief, type Case, isMessage } from './kit.js'

const levels = [0, 1, 2] as const

/** Publishes all with at most `windowSize` unacknowledged: more than some brokers take at once. */
async function publishInOrder(client: RawClient, topic: string, count: number, qos: 1 | 2): Promise<void> {
  const windowSize = 16
  const running: Promise<void>[] = []
  for (let number = 0; number < count; number++) {
    if (running.length >= windowSize) await running.shift()
    running.push(client.publish(topic, String(number), { qos }))
  }
  await Promise.all(running)
}

const orderCase = (qos: 1 | 2): Case => ({
  name: `1,000 messages of one publisher at QoS ${qos} arrive once and in order`,
  spec: 'MQTT-4.6.0-5',
  async run(t, kit) {
    const count = 1_000
    const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
    await subscriber.subscribe([kit.topic('order'), qos])
    await publishInOrder(publisher, kit.topic('order'), count, qos)
    const arrived = (await kit.messages(publisher, subscriber)).map((message) => Number(message.payload.toString()))
    t.strictSame(
      arrived,
      Array.from({ length: count }, (_, number) => number),
    )
  },
})

const sizeCase = (name: string, payload: Buffer): Case => ({
  name: `a payload of ${name} arrives unchanged at each QoS`,
  spec: 'MQTT-3.3.2-3',
  ws: true,
  async run(t, kit) {
    const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
    await subscriber.subscribe([kit.topic('size'), 2])
    for (const qos of levels) {
      await publisher.publish(kit.topic('size'), payload, { qos })
      const message = await subscriber.message(kit.topic('size'))
      t.equal(message.qos, qos)
      t.ok(payload.equals(message.payload as Buffer), `${payload.length} bytes at QoS ${qos}`)
    }
  },
})

const topicCase = (name: string, topicOf: (prefix: string) => string): Case => ({
  name: `a topic of ${name} is kept byte for byte`,
  spec: 'MQTT-1.5.3-3, MQTT-4.7.3-3',
  async run(t, kit) {
    const topic = topicOf(kit.topic('x'))
    const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
    t.strictSame(await subscriber.subscribe([topic, 1]), [1])
    await publisher.publish(topic, 'here', { qos: 1 })
    t.equal((await subscriber.message()).topic, topic)
  },
})

export const publishingCases: Case[] = [
  {
    name: 'a message goes round at QoS 0, 1 and 2, to the publisher itself, too',
    spec: 'MQTT-4.3.1-1, MQTT-4.3.2-1, MQTT-4.3.3-1',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      t.strictSame(await client.subscribe([kit.topic('a'), 2]), [2])
      for (const qos of levels) await client.publish(kit.topic('a'), `at ${qos}`, { qos })
      const arrived = (await kit.messages(client, client)).map(brief).sort()
      t.strictSame(
        arrived,
        levels.map((qos) => `${kit.topic('a')} at ${qos} q${qos}`),
      )
    },
  },
  {
    name: 'a message is delivered at the lower of its QoS and the subscribed one',
    spec: 'MQTT-3.8.4-6',
    ws: true,
    async run(t, kit) {
      const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
      for (const asked of levels) {
        t.strictSame(await subscriber.subscribe([kit.topic(`at${asked}`), asked]), [asked])
        for (const qos of levels) {
          await publisher.publish(kit.topic(`at${asked}`), 'm', { qos })
          const message = await subscriber.message(kit.topic(`at${asked}`))
          t.equal(message.qos, Math.min(qos, asked), `published at ${qos}, subscribed at ${asked}`)
        }
      }
    },
  },
  {
    name: 'PUBACK, PUBREC and PUBCOMP carry the id of the PUBLISH, from 1 to 65,535',
    spec: 'MQTT-2.3.1-6',
    async run(_t, kit) {
      const client = await kit.connect()
      for (const packetId of [1, 255, 256, 32_768, 65_535]) {
        await client.publish(kit.topic('ids'), 'm', { qos: 1, packetId })
        await client.publish(kit.topic('ids'), 'm', { qos: 2, packetId })
      }
    },
  },
  {
    name: 'a repeated QoS 2 PUBLISH is answered again and delivered once; after PUBCOMP the id is free',
    spec: 'MQTT-4.3.3-2',
    ws: true,
    async run(t, kit) {
      const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
      await subscriber.subscribe([kit.topic('twice'), 2])
      const message = { topic: kit.topic('twice'), payload: 'first', qos: 2, packetId: 7 }
      publisher.send(packets.publish(message))
      await publisher.expect('pubrec', 7)
      publisher.send(packets.publish({ ...message, dup: true }))
      await publisher.expect('pubrec', 7)
      publisher.send(packets.pubrel(7))
      await publisher.expect('pubcomp', 7)
      await publisher.publish(message.topic, 'second', { qos: 2, packetId: 7 })
      const arrived = await kit.messages(publisher, subscriber)
      t.strictSame(
        arrived.map((each) => each.payload.toString()),
        ['first', 'second'],
      )
    },
  },
  {
    name: 'a repeated PUBREL is answered with PUBCOMP again',
    spec: 'MQTT-4.3.3-2',
    async run(_t, kit) {
      const client = await kit.connect()
      await client.publish(kit.topic('a'), 'm', { qos: 2, packetId: 9 })
      client.send(packets.pubrel(9))
      await client.expect('pubcomp', 9)
    },
  },
  {
    name: 'the DUP flag of a publisher is not passed on',
    spec: 'MQTT-3.3.1-3',
    async run(t, kit) {
      const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
      await subscriber.subscribe([kit.topic('dup'), 2])
      for (const qos of [1, 2] as const) {
        await publisher.publish(kit.topic('dup'), 'm', { qos, dup: true })
        t.equal((await subscriber.message(kit.topic('dup'))).dup, false)
      }
    },
  },
  {
    name: 'several packets in one segment are all answered, the acknowledgements in order',
    spec: 'MQTT-4.6.0-2',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      const ids = Array.from({ length: 20 }, (_, at) => at + 1)
      client.send(...ids.map((packetId) => packets.publish({ topic: kit.topic('a'), payload: 'm', qos: 1, packetId })), packets.pingreq)
      for (const _ of ids) await client.expect('puback')
      await client.expect('pingresp')
      t.strictSame(
        client.received.filter((packet) => packet.cmd === 'puback').map((packet) => packet.messageId),
        ids,
      )
    },
  },
  {
    name: 'an empty message that is not retained is delivered',
    spec: 'MQTT-3.3.2-3',
    async run(t, kit) {
      const client = await kit.connect()
      await client.subscribe([kit.topic('empty'), 1])
      await client.publish(kit.topic('empty'), '', { qos: 1 })
      t.equal((await client.message(kit.topic('empty'))).payload.length, 0)
    },
  },
  {
    name: 'what nobody subscribed to is acknowledged all the same and reaches nobody',
    spec: 'MQTT-3.3.4-1',
    async run(t, kit) {
      const [publisher, other] = [await kit.connect(), await kit.connect()]
      for (const qos of levels) await publisher.publish(kit.topic('nobody'), 'm', { qos })
      t.strictSame(await kit.messages(publisher, other), [])
      t.notOk(publisher.received.some(isMessage))
    },
  },
  orderCase(1),
  orderCase(2),
  sizeCase('all byte values', Buffer.from(Array.from({ length: 256 }, (_, value) => value))),
  sizeCase('16,384 bytes, three bytes of length', Buffer.alloc(16_384, 'x')),
  sizeCase('100,000 bytes', Buffer.alloc(100_000, 'parley ')),
  topicCase('letters outside ASCII', (prefix) => `${prefix}/öß/日本/🦉`),
  topicCase('U+FEFF, which is no byte order mark here', (prefix) => `${prefix}/\uFEFFa`),
  topicCase('blanks and empty levels', (prefix) => `${prefix}/ /a b//`),
  topicCase('names that JavaScript knows', (prefix) => `${prefix}/__proto__/constructor`),
  topicCase('90 levels', (prefix) => `${prefix}${'/a'.repeat(88)}`),
  topicCase('1,000 bytes', (prefix) => `${prefix}/`.padEnd(1_000, 'long')),
]
