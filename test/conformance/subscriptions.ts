/** Cases on SUBSCRIBE and UNSUBSCRIBE: matching, overlap, refusal. */
import { brief, type Case, type Kit } from './kit.js'

/** Topics against filters; each topic is published once for each filter. Free of any prefix: leading levels matter. */
const topics = [
  'sport',
  'sport/',
  'sport/tennis',
  'sport/tennis/player1',
  'sport/tennis/player1/ranking',
  'sport//player1',
  'Sport/tennis',
  'sports',
  'finance',
  '/finance',
  '/',
  '//',
  'a/ /b',
]

const matches: Record<string, string[]> = {
  sport: ['sport'],
  'sport/': ['sport/'],
  'sport/#': ['sport', 'sport/', 'sport/tennis', 'sport/tennis/player1', 'sport/tennis/player1/ranking', 'sport//player1'],
  'sport/tennis/#': ['sport/tennis', 'sport/tennis/player1', 'sport/tennis/player1/ranking'],
  'sport/tennis/player1/#': ['sport/tennis/player1', 'sport/tennis/player1/ranking'],
  'sport/+': ['sport/', 'sport/tennis'],
  'sport/+/player1': ['sport/tennis/player1', 'sport//player1'],
  'sport/+/+': ['sport/tennis/player1', 'sport//player1'],
  'sport/+/#': ['sport/', 'sport/tennis', 'sport/tennis/player1', 'sport/tennis/player1/ranking', 'sport//player1'],
  'sport//+': ['sport//player1'],
  'Sport/tennis': ['Sport/tennis'],
  '+': ['sport', 'sports', 'finance'],
  '+/+': ['sport/', 'sport/tennis', 'Sport/tennis', '/finance', '/'],
  '/+': ['/finance', '/'],
  '+/': ['sport/', '/'],
  '/': ['/'],
  '//': ['//'],
  '+/+/+': ['sport/tennis/player1', 'sport//player1', '//', 'a/ /b'],
  '/#': ['/finance', '/', '//'],
  '+/tennis/#': ['sport/tennis', 'sport/tennis/player1', 'sport/tennis/player1/ranking', 'Sport/tennis'],
  'a/+/b': ['a/ /b'],
  'a/b': [],
  '#': topics,
}

/** By a client of its own: a broker may forbid the topic to publishers, too, and close. */
async function publishSecret(kit: Kit): Promise<void> {
  const publisher = await kit.connect()
  await publisher.publish('test/nosubscribe', 'secret', { qos: 1 }).catch(() => publisher.closed)
}

export const subscriptionCases: Case[] = [
  {
    name: 'filters match as the text says: +, #, empty levels, case',
    spec: 'MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-3',
    ws: true,
    async run(t, kit) {
      const [publisher, subscriber] = [await kit.connect(), await kit.connect()]
      for (const [filter, expected] of Object.entries(matches)) {
        const payload = kit.clientId(filter)
        t.strictSame(await subscriber.subscribe([filter, 1]), [1])
        for (const topic of topics) await publisher.publish(topic, payload, { qos: 1 })
        const arrived = (await kit.messages(publisher, subscriber)).filter((each) => each.payload.toString() === payload)
        t.strictSame(arrived.map((each) => each.topic).sort(), [...expected].sort(), filter)
        await subscriber.unsubscribe(filter)
      }
    },
  },
  {
    name: 'topics that begin with $ are not matched by a leading wildcard',
    spec: 'MQTT-4.7.2-1',
    async run(t, kit) {
      const [publisher, subscriber, other] = [await kit.connect(), await kit.connect(), await kit.connect()]
      await subscriber.subscribe(['#', 1], ['+/dollar', 1], ['+/+', 1])
      await publisher.publish('$x/dollar', 'm') // a broker may refuse it and close
      await other.publish('x/dollar', 'seen')
      const arrived = (await kit.messages(other, subscriber)).map((each) => each.topic)
      t.ok(arrived.includes('x/dollar'))
      t.strictSame(
        arrived.filter((topic) => topic.startsWith('$')),
        [],
      )
    },
  },
  {
    name: 'overlapping filters: one copy at the higher QoS or one for each filter',
    spec: 'MQTT-3.3.5-1',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      t.strictSame(await client.subscribe([kit.topic('a/#'), 2], [kit.topic('a/+'), 1]), [2, 1])
      await client.publish(kit.topic('a/c'), 'over', { qos: 2 })
      const qos = (await kit.messages(client, client)).map((each) => each.qos).sort()
      t.ok(qos.join() === '2' || qos.join() === '1,2', `copies at QoS ${qos.join(' and ')}`)
    },
  },
  {
    name: 'a filter that may not be subscribed to gets 0x80, those beside it what they ask, in order',
    spec: 'MQTT-3.9.3-1, MQTT-3.8.4-5',
    ws: true,
    async run(t, kit) {
      const [publisher, client] = [await kit.connect(), await kit.connect()]
      t.strictSame(await client.subscribe(['test/nosubscribe', 2]), [0x80])
      t.strictSame(
        await client.subscribe([kit.topic('b'), 1], ['test/nosubscribe', 2], [kit.topic('c'), 0], [kit.topic('d'), 2]),
        [1, 0x80, 0, 2],
      )
      await publishSecret(kit)
      for (const name of ['b', 'c', 'd']) await publisher.publish(kit.topic(name), 'm', { qos: 2 })
      t.strictSame((await kit.messages(publisher, client)).map(brief).sort(), [
        `${kit.topic('b')} m q1`,
        `${kit.topic('c')} m q0`,
        `${kit.topic('d')} m q2`,
      ])
    },
  },
  {
    name: 'a refused filter is not stored in a persistent session either',
    spec: 'MQTT-3.9.3-1',
    async run(t, kit) {
      const clientId = kit.clientId()
      const publisher = await kit.connect()
      const first = await kit.connect({ clientId, clean: false })
      t.strictSame(await first.subscribe([kit.topic('ok'), 1], ['test/nosubscribe', 1]), [1, 0x80])
      await first.disconnect()
      await publishSecret(kit)
      await publisher.publish(kit.topic('ok'), 'm', { qos: 1 })
      const second = await kit.connect({ clientId, clean: false })
      await publishSecret(kit)
      t.strictSame((await kit.messages(publisher, second)).map(brief), [`${kit.topic('ok')} m q1`])
    },
  },
  {
    name: 'a SUBSCRIBE to the same filter replaces the QoS and adds no copy',
    spec: 'MQTT-3.8.4-3',
    async run(t, kit) {
      const [publisher, client] = [await kit.connect(), await kit.connect()]
      for (const asked of [0, 2, 1]) {
        t.strictSame(await client.subscribe([kit.topic('same'), asked]), [asked])
        await publisher.publish(kit.topic('same'), 'm', { qos: 2 })
        t.strictSame((await kit.messages(publisher, client)).map(brief), [`${kit.topic('same')} m q${asked}`])
      }
    },
  },
  {
    name: 'UNSUBSCRIBE ends exactly the filters that it names, and is answered for unknown ones, too',
    spec: 'MQTT-3.10.4-1, MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-3.10.4-6',
    ws: true,
    async run(t, kit) {
      const client = await kit.connect()
      await client.subscribe([kit.topic('a'), 1], [kit.topic('+'), 1], [kit.topic('b'), 1], [kit.topic('c'), 1])
      await client.unsubscribe(kit.topic('+'), kit.topic('b'))
      await client.unsubscribe(kit.topic('never'))
      await client.unsubscribe(kit.topic('never'), kit.topic('#'))
      for (const name of ['a', 'b', 'c']) await client.publish(kit.topic(name), 'm', { qos: 1 })
      t.strictSame((await kit.messages(client, client)).map(brief).sort(), [`${kit.topic('a')} m q1`, `${kit.topic('c')} m q1`])
    },
  },
  {
    name: 'many subscribers and many subscriptions of one client each get their message once',
    spec: 'MQTT-3.3.5-1',
    async run(t, kit) {
      const publisher = await kit.connect()
      const many = await Promise.all(Array.from({ length: 20 }, () => kit.connect()))
      for (const client of many) {
        for (let number = 0; number < 10; number++) await client.subscribe([kit.topic(`n/${number}`), 1])
      }
      for (let number = 0; number < 10; number++) await publisher.publish(kit.topic(`n/${number}`), String(number), { qos: 1 })
      for (const client of many) {
        t.strictSame(
          (await kit.messages(publisher, client)).map((each) => each.payload.toString()),
          Array.from({ length: 10 }, (_, number) => String(number)),
        )
      }
    },
  },
]
