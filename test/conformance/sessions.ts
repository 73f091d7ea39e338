/** Cases on CONNECT and on what a session keeps while its client is away. */
import * as packets from '../helper/packets.js'
import type { RawClient } from '../helper/raw-client.js'
import { brief, type Case, isMessage } from './kit.js'

export const sessionCases: Case[] = [
  {
    name: 'messages of QoS 1 and 2 wait for a persistent session, in order',
    spec: 'MQTT-3.1.2-5',
    ws: true,
    async run(t, kit) {
      const clientId = kit.clientId()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('q/+'), 2])
      await first.disconnect()
      const publisher = await kit.connect()
      for (const qos of [0, 1, 2] as const) await publisher.publish(kit.topic(`q/${qos}`), 'm', { qos })
      for (let number = 0; number < 50; number++) await publisher.publish(kit.topic('q/n'), String(number), { qos: 1 })
      const second = await kit.connect({ clientId, clean: false })
      await second.waitFor((packet) => isMessage(packet) && packet.payload.toString() === '49', { what: 'message 49' })
      await kit.fence(publisher, second)
      const arrived = second.received.filter(isMessage).map(brief)
      t.ok(arrived.includes(`${kit.topic('q/1')} m q1`), 'the message of QoS 1')
      t.ok(arrived.includes(`${kit.topic('q/2')} m q2`), 'the message of QoS 2')
      t.strictSame(
        arrived.filter((each) => each.startsWith(kit.topic('q/n'))),
        Array.from({ length: 50 }, (_, number) => `${kit.topic('q/n')} ${number} q1`),
      )
    },
  },
  {
    name: 'session present tells whether the server kept the session; clean=1 discards it',
    spec: 'MQTT-3.2.2-1, MQTT-3.2.2-2, MQTT-3.2.2-3, MQTT-3.1.2-6',
    ws: true,
    async run(t, kit) {
      const clientId = kit.clientId()
      const present = async (clean: boolean) => {
        const client = await kit.connect({ clientId, clean })
        const flag = client.sessionPresent
        if (clean === false) await client.subscribe([kit.topic('s'), 1])
        await client.disconnect()
        return flag
      }
      t.equal(await present(false), false, 'none yet')
      t.equal(await present(false), true, 'kept')
      t.equal(await present(true), false, 'discarded')
      t.equal(await present(false), false, 'nothing came back')
    },
  },
  {
    name: 'clean=1 discards subscriptions and waiting messages of the old session',
    spec: 'MQTT-3.1.2-6',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('old'), 1])
      await first.disconnect()
      await publisher.publish(kit.topic('old'), 'waiting', { qos: 1 })
      const cleaned = await kit.connect({ clientId, clean: true })
      await publisher.publish(kit.topic('old'), 'live', { qos: 1 })
      t.strictSame((await kit.messages(publisher, cleaned)).map(brief), [])
      await cleaned.disconnect()
      const third = await kit.connect({ clientId, clean: false })
      await publisher.publish(kit.topic('old'), 'later', { qos: 1 })
      t.strictSame((await kit.messages(publisher, third)).map(brief), [])
    },
  },
  {
    name: 'the subscriptions of a clean session end with it',
    spec: 'MQTT-3.1.2-6',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId })
      await first.subscribe([kit.topic('gone'), 1])
      await first.disconnect()
      await publisher.publish(kit.topic('gone'), 'm', { qos: 1 })
      const second = await kit.connect({ clientId, clean: false })
      t.equal(second.sessionPresent, false)
      await publisher.publish(kit.topic('gone'), 'm', { qos: 1 })
      t.strictSame((await kit.messages(publisher, second)).map(brief), [])
    },
  },
  {
    name: 'a persistent session needs no second SUBSCRIBE, also after the connection broke',
    spec: 'MQTT-3.1.2-4',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('stay/#'), 1], [kit.topic('leave'), 1])
      await first.unsubscribe(kit.topic('leave'))
      first.reset()
      const second = await kit.connect({ clientId, clean: false })
      t.equal(second.sessionPresent, true)
      await publisher.publish(kit.topic('leave'), 'm', { qos: 1 })
      await publisher.publish(kit.topic('stay/a'), 'm', { qos: 1 })
      t.strictSame((await kit.messages(publisher, second)).map(brief), [`${kit.topic('stay/a')} m q1`])
    },
  },
  {
    name: 'QoS 1 and 2 messages that were not acknowledged come again with DUP and the same ids',
    spec: 'MQTT-4.4.0-1, MQTT-3.3.1-1',
    ws: true,
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false, autoAck: false })
      await first.subscribe([kit.topic('r/+'), 2])
      await publisher.publish(kit.topic('r/1'), 'one', { qos: 1 })
      await publisher.publish(kit.topic('r/2'), 'two', { qos: 2 })
      const one = await first.message(kit.topic('r/1'))
      const two = await first.message(kit.topic('r/2'))
      t.notOk(one.dup || two.dup, 'DUP is 0 at first')
      first.reset()
      const second = await kit.connect({ clientId, clean: false })
      const oneAgain = await second.message(kit.topic('r/1'))
      const twoAgain = await second.message(kit.topic('r/2'))
      t.strictSame([brief(oneAgain), oneAgain.messageId, oneAgain.dup], [brief(one), one.messageId, true])
      t.strictSame([brief(twoAgain), twoAgain.messageId, twoAgain.dup], [brief(two), two.messageId, true])
      await second.expect('pubrel', two.messageId)
      await second.ping()
      await second.disconnect()
      const third = await kit.connect({ clientId, clean: false })
      t.strictSame((await kit.messages(publisher, third)).map(brief), [], 'what was acknowledged does not come a third time')
    },
  },
  {
    name: 'after PUBREC only PUBREL is sent again, with its id',
    spec: 'MQTT-4.4.0-1, MQTT-4.3.3-1',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false, autoAck: false })
      await first.subscribe([kit.topic('rel'), 2])
      await publisher.publish(kit.topic('rel'), 'm', { qos: 2 })
      const { messageId = 0 } = await first.message(kit.topic('rel'))
      first.send(packets.pubrec(messageId))
      await first.expect('pubrel', messageId)
      first.reset()
      const second = await kit.connect({ clientId, clean: false })
      await second.expect('pubrel', messageId)
      t.strictSame((await kit.messages(publisher, second)).map(brief), [])
    },
  },
  {
    name: 'a QoS 2 PUBLISH that is repeated over a new connection of the session is delivered once',
    spec: 'MQTT-4.3.3-2, MQTT-3.1.2-4',
    async run(t, kit) {
      const clientId = kit.clientId()
      const subscriber = await kit.connect()
      await subscriber.subscribe([kit.topic('in'), 2])
      const message = { topic: kit.topic('in'), payload: 'm', qos: 2, packetId: 5 }
      const first = await kit.connect({ clientId, clean: false })
      first.send(packets.publish(message))
      await first.expect('pubrec', 5)
      first.reset()
      const second = await kit.connect({ clientId, clean: false })
      second.send(packets.publish({ ...message, dup: true }))
      await second.expect('pubrec', 5)
      second.send(packets.pubrel(5))
      await second.expect('pubcomp', 5)
      t.strictSame((await kit.messages(second, subscriber)).map(brief), [`${kit.topic('in')} m q2`])
    },
  },
  {
    name: 'a clean session forgets the QoS 2 ids of the one before',
    spec: 'MQTT-3.1.2-6',
    async run(t, kit) {
      const clientId = kit.clientId()
      const subscriber = await kit.connect()
      await subscriber.subscribe([kit.topic('in'), 2])
      const first = await kit.connect({ clientId })
      await first.publish(kit.topic('in'), 'one', { qos: 2, packetId: 5 })
      first.send(packets.publish({ topic: kit.topic('in'), payload: 'half', qos: 2, packetId: 6 }))
      await first.expect('pubrec', 6)
      first.reset()
      const second = await kit.connect({ clientId })
      await second.publish(kit.topic('in'), 'two', { qos: 2, packetId: 6 })
      const arrived = (await kit.messages(second, subscriber)).map((each) => each.payload.toString())
      t.ok(arrived.includes('one') && arrived.includes('two'), arrived.join())
    },
  },
  {
    name: 'the newer connection of a client id takes the session over; the older one is closed',
    spec: 'MQTT-3.1.4-2',
    ws: true,
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const older = await kit.connect({ clientId, clean: false })
      await older.subscribe([kit.topic('mine'), 1])
      const newer = await kit.connect({ clientId, clean: false })
      await older.expectClose()
      t.equal(newer.sessionPresent, true)
      await publisher.publish(kit.topic('mine'), 'm', { qos: 1 })
      t.strictSame((await kit.messages(publisher, newer)).map(brief), [`${kit.topic('mine')} m q1`])
    },
  },
  {
    name: 'a second CONNECT closes the connection',
    spec: 'MQTT-3.1.0-2',
    ws: true,
    async run(_t, kit) {
      const clientId = kit.clientId()
      const client = await kit.connect({ clientId })
      client.send(packets.connect({ clientId }))
      await client.expectClose()
    },
  },
  {
    name: 'an empty client id is accepted with clean=1, each such client being one of its own',
    spec: 'MQTT-3.1.3-6, MQTT-3.1.3-7',
    ws: true,
    async run(_t, kit) {
      const clients = [await kit.connect({ clientId: '' }), await kit.connect({ clientId: '' })]
      for (const client of clients) await client.ping()
    },
  },
  {
    name: 'an empty client id is refused with CONNACK 2 and a close with clean=0',
    spec: 'MQTT-3.1.3-8, MQTT-3.1.3-9',
    ws: true,
    async run(t, kit) {
      const client = await kit.open()
      client.send(packets.connect({ clientId: '', clean: false }))
      t.equal((await client.expect('connack')).returnCode, 2)
      await client.expectClose()
    },
  },
  {
    name: 'client ids of 1 and of 23 characters are accepted',
    spec: 'MQTT-3.1.3-5',
    async run(_t, kit) {
      for (const clientId of ['Z', '0123456789abcdefghijKLM', 'NOPQRSTUVWXYZklmnopqrst', 'uvwxyz'])
        await (await kit.connect({ clientId })).ping()
    },
  },
  {
    name: 'nothing comes before CONNACK, also with messages waiting and a publisher at work',
    spec: 'MQTT-3.2.0-1',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('busy'), 1])
      await first.disconnect()
      const arrived = new Set<string>()
      const note = (client: RawClient) => {
        for (const message of client.received.filter(isMessage))
          if (message.topic === kit.topic('busy')) arrived.add(message.payload.toString())
      }
      for (let round = 0; round < 10; round++) {
        const burst = Array.from({ length: 20 }, (_, number) => publisher.publish(kit.topic('busy'), `${round}.${number}`, { qos: 1 }))
        const returned = await kit.open()
        returned.send(packets.connect({ clientId, clean: false }))
        await returned.expect('connack')
        await Promise.all(burst)
        await kit.fence(publisher, returned)
        t.equal(returned.received[0]?.cmd, 'connack', `first in round ${round}`)
        note(returned)
        await returned.disconnect()
      }
      const last = await kit.connect({ clientId, clean: false })
      await kit.fence(publisher, last)
      note(last)
      t.equal(arrived.size, 200, 'and every message comes')
    },
  },
  {
    name: 'the server closes the connection after DISCONNECT',
    spec: 'MQTT-3.14.4-3',
    ws: true,
    async run(_t, kit) {
      const client = await kit.connect()
      client.send(packets.disconnect)
      await client.expectClose()
    },
  },
  {
    name: 'PINGREQ is answered, many in one segment, too',
    spec: 'MQTT-3.12.4-1',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      client.send(...Array.from({ length: 10 }, () => packets.pingreq))
      for (let count = 0; count < 10; count++) await client.expect('pingresp')
      t.equal(client.inbox.length, 0)
    },
  },
]
