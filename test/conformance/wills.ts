/** Cases on wills and on the keep alive, whose end is one of the things that send a will. */
import * as packets from '../helper/packets.js'
import type { RawClient } from '../helper/raw-client.js'
import { brief, type Case, type Kit } from './kit.js'

/** Longer than one and a half times the keep alive of 1 s that the cases use; brokers check in steps. */
const keepaliveDeadlineMs = 20_000

const endings: Record<string, (client: RawClient) => void> = {
  'a reset of the connection': (client) => client.reset(),
  'a close without DISCONNECT': (client) => void client.end(),
  'a protocol violation': (client) => client.send(packets.packet(packets.packetType.subscribe, 0, packets.uint16(1), packets.text('a'), 0)),
}

const endingCase = ([name, finish]: [string, (client: RawClient) => void]): Case => ({
  name: `${name} sends the will, at its QoS`,
  spec: 'MQTT-3.1.2-8, MQTT-3.1.2-16',
  ws: true,
  async run(t, kit) {
    const watcher = await kit.connect()
    await watcher.subscribe([kit.topic('will/+'), 2])
    for (const qos of [0, 1, 2]) {
      const topic = kit.topic(`will/${qos}`)
      const client = await kit.connect({ will: { topic, payload: 'gone', qos } })
      finish(client)
      t.equal(brief(await watcher.message(topic)), `${topic} gone q${qos}`)
    }
    t.strictSame(await kit.messages(watcher, watcher), [], 'once each')
  },
})

async function willOfSilentClient(kit: Kit): Promise<string> {
  const watcher = await kit.connect()
  await watcher.subscribe([kit.topic('will'), 1])
  const client = await kit.connect({ keepaliveS: 1, will: { topic: kit.topic('will'), payload: 'silent', qos: 1 } })
  const message = await watcher.message(kit.topic('will'), keepaliveDeadlineMs)
  await client.expectClose()
  return message.payload.toString()
}

export const willCases: Case[] = [
  ...Object.entries(endings).map(endingCase),
  {
    name: 'no will after DISCONNECT',
    spec: 'MQTT-3.1.2-10, MQTT-3.14.4-3',
    ws: true,
    async run(t, kit) {
      const watcher = await kit.connect()
      await watcher.subscribe([kit.topic('will'), 2])
      const client = await kit.connect({ will: { topic: kit.topic('will'), payload: 'gone', qos: 1 } })
      await client.disconnect()
      t.strictSame(await kit.messages(watcher, watcher), [])
    },
  },
  {
    name: 'a will with RETAIN is retained, one without is not',
    spec: 'MQTT-3.1.2-16, MQTT-3.1.2-17',
    async run(t, kit) {
      const watcher = await kit.connect()
      await watcher.subscribe([kit.topic('will/+'), 1])
      for (const retain of [false, true]) {
        const topic = kit.topic(`will/${retain}`)
        kit.willBeRetained(topic)
        const client = await kit.connect({ will: { topic, payload: 'gone', qos: 1, retain } })
        client.reset()
        t.equal(brief(await watcher.message(topic)), `${topic} gone q1`)
      }
      const late = await kit.connect()
      await late.subscribe([kit.topic('will/+'), 1])
      t.strictSame((await kit.messages(watcher, late)).map(brief), [`${kit.topic('will/true')} gone q1 retained`])
    },
  },
  {
    name: 'a will may be empty or hold any bytes',
    spec: 'MQTT-3.1.2-8',
    async run(t, kit) {
      const watcher = await kit.connect()
      await watcher.subscribe([kit.topic('will'), 1])
      for (const payload of [Buffer.of(), Buffer.of(0, 0xff, 0xc0, 0x80)]) {
        const client = await kit.connect({ will: { topic: kit.topic('will'), payload, qos: 1 } })
        client.reset()
        t.ok(payload.equals((await watcher.message(kit.topic('will'))).payload as Buffer))
      }
    },
  },
  {
    name: 'a will waits for a persistent session that is away',
    spec: 'MQTT-3.1.2-5',
    async run(t, kit) {
      const clientId = kit.clientId()
      const first = await kit.connect({ clientId, clean: false })
      await first.subscribe([kit.topic('will'), 1])
      await first.disconnect()
      const watcher = await kit.connect()
      await watcher.subscribe([kit.topic('will'), 1])
      const client = await kit.connect({ will: { topic: kit.topic('will'), payload: 'gone', qos: 1 } })
      client.reset()
      await watcher.message(kit.topic('will'))
      const second = await kit.connect({ clientId, clean: false })
      t.equal(brief(await second.message(kit.topic('will'))), `${kit.topic('will')} gone q1`)
    },
  },
  {
    name: 'a silent client is cut after one and a half times its keep alive, and its will is sent',
    spec: 'MQTT-3.1.2-24, MQTT-3.1.2-8',
    ws: true,
    async run(t, kit) {
      t.equal(await willOfSilentClient(kit), 'silent')
    },
  },
  {
    name: 'PINGREQ or any other packet keeps a client with a short keep alive connected',
    spec: 'MQTT-3.1.2-24',
    async run(t, kit) {
      const talkers = [await kit.connect({ keepaliveS: 1 }), await kit.connect({ keepaliveS: 1 })]
      const beats = setInterval(() => {
        talkers[0]?.send(packets.pingreq)
        talkers[1]?.send(packets.publish({ topic: kit.topic('beat'), payload: 'm' }))
      }, 250)
      t.teardown(() => clearInterval(beats))
      await willOfSilentClient(kit) // as long as a client with the same keep alive lasts without a word
      for (const client of talkers) await client.ping()
    },
  },
]
