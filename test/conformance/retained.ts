/** Cases on retained messages. */
import type { RawClient } from '../helper/raw-client.js'
import { brief, type Case, type Kit } from './kit.js'

const levels = [0, 1, 2] as const

/** What a new subscriber of `filter` gets for a start, sorted. */
async function retainedOn(kit: Kit, publisher: RawClient, filter: string): Promise<string[]> {
  const subscriber = await kit.connect()
  await subscriber.subscribe([filter, 2])
  const messages = await kit.messages(publisher, subscriber)
  await subscriber.disconnect()
  return messages.map(brief).sort()
}

export const retainedCases: Case[] = [
  {
    name: 'messages retained at each QoS are delivered on SUBSCRIBE with RETAIN set; an empty one clears them',
    spec: 'MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-8, MQTT-3.3.1-10',
    ws: true,
    async run(t, kit) {
      const publisher = await kit.connect()
      for (const qos of levels) await kit.retain(publisher, kit.topic(`at/${qos}`), `m${qos}`, qos)
      t.strictSame(
        await retainedOn(kit, publisher, kit.topic('at/+')),
        levels.map((qos) => `${kit.topic(`at/${qos}`)} m${qos} q${qos} retained`),
      )
      for (const qos of levels) await kit.retain(publisher, kit.topic(`at/${qos}`), '', qos)
      t.strictSame(await retainedOn(kit, publisher, kit.topic('at/+')), [])
    },
  },
  {
    name: 'a retained message reaches those who are subscribed already with RETAIN 0, an empty one, too',
    spec: 'MQTT-3.3.1-9',
    async run(t, kit) {
      const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
      await subscriber.subscribe([kit.topic('live'), 2])
      for (const qos of levels) await kit.retain(publisher, kit.topic('live'), 'm', qos)
      await publisher.publish(kit.topic('live'), '', { retain: true })
      t.strictSame(
        (await kit.messages(publisher, subscriber)).map(brief).sort(),
        ['live  q0', 'live m q0', 'live m q1', 'live m q2'].map((each) => kit.topic(each)),
      )
    },
  },
  {
    name: 'the last retained message counts; one that is not retained changes nothing',
    spec: 'MQTT-3.3.1-5, MQTT-3.3.1-12',
    async run(t, kit) {
      const publisher = await kit.connect()
      await kit.retain(publisher, kit.topic('last'), 'one', 1)
      await kit.retain(publisher, kit.topic('last'), 'two', 2)
      await publisher.publish(kit.topic('last'), 'three', { qos: 1 })
      await publisher.publish(kit.topic('last'), '', { qos: 1 })
      t.strictSame(await retainedOn(kit, publisher, kit.topic('last')), [`${kit.topic('last')} two q2 retained`])
    },
  },
  {
    name: 'a retained message is delivered at the lower of its QoS and the subscribed one',
    spec: 'MQTT-3.8.4-6',
    async run(t, kit) {
      const publisher = await kit.connect()
      for (const qos of levels) await kit.retain(publisher, kit.topic(`q${qos}`), 'm', qos)
      for (const asked of levels) {
        const subscriber = await kit.connect()
        for (const qos of levels) {
          await subscriber.subscribe([kit.topic(`q${qos}`), asked])
          t.equal((await subscriber.message(kit.topic(`q${qos}`))).qos, Math.min(asked, qos), `retained at ${qos}, subscribed at ${asked}`)
        }
      }
    },
  },
  {
    name: 'retained messages outlive their publisher, and wildcards find them at every depth',
    spec: 'MQTT-3.3.1-6',
    async run(t, kit) {
      const owner = await kit.connect()
      for (const name of ['t', 't/a', 't/a/b', 'tt']) await kit.retain(owner, kit.topic(name), 'm', 1)
      await owner.disconnect()
      const publisher = await kit.connect()
      const found = async (filter: string) => (await retainedOn(kit, publisher, kit.topic(filter))).map((each) => each.split(' ')[0])
      const topics = (...names: string[]) => names.map((name) => kit.topic(name))
      t.strictSame(await found('t/#'), topics('t', 't/a', 't/a/b'))
      t.strictSame(await found('t/+'), topics('t/a'))
      t.strictSame(await found('+'), topics('t', 'tt'))
      t.strictSame(await found('+/+/b'), topics('t/a/b'))
    },
  },
  {
    name: 'a SUBSCRIBE to the same filter sends the retained message again',
    spec: 'MQTT-3.8.4-3',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      await kit.retain(client, kit.topic('again'), 'm', 1)
      for (const asked of [1, 0]) {
        await client.subscribe([kit.topic('again'), asked])
        t.equal(brief(await client.message()), `${kit.topic('again')} m q${asked} retained`)
      }
      t.strictSame(await kit.messages(client, client), [])
    },
  },
  {
    name: 'a persistent session that returns is not sent retained messages unasked',
    spec: 'MQTT-3.3.1-6',
    async run(t, kit) {
      const clientId = kit.clientId()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('kept'), 1])
      await kit.retain(first, kit.topic('kept'), 'm', 1)
      await first.message(kit.topic('kept'))
      await first.ping()
      await first.disconnect()
      const second = await kit.connect({ clientId, clean: false })
      const publisher = await kit.connect()
      t.strictSame((await kit.messages(publisher, second)).map(brief), [])
    },
  },
]
