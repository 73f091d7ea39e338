/** What only MQTT over WebSocket can do wrong, or do in an unusual and legal way. */
import { once } from 'node:events'
import type { Test } from 'tap'
import * as packets from '../helper/packets.js'
import { connectRaw, type LinkOptions, RawClient } from '../helper/raw-client.js'

export interface FrameCase {
  name: string
  spec: string
  run(t: Test, link: LinkOptions): Promise<void>
}

const hello = (clientId: string): Buffer => packets.connect({ clientId })
const question = packets.subscribe(1, ['frames/a', 1])

async function isRefused(link: LinkOptions, subprotocols: string[]): Promise<boolean> {
  const attempt = connectRaw({ ...link, subprotocols, clientId: 'badframes' })
  return attempt.then(
    (client) => {
      client.reset()
      return false
    },
    () => true,
  )
}

/** Opens, lets `send` write a CONNECT and a SUBSCRIBE in its way, and expects the answers. */
const answered = (name: string, send: (client: RawClient, content: Buffer) => void | Promise<void>): FrameCase => ({
  name,
  spec: 'MQTT-6.0.0-2',
  async run(t, link) {
    const client = await RawClient.open(link)
    t.teardown(() => client.reset())
    await send(client, packets.bytes(hello('frames'), question))
    t.equal((await client.expect('connack')).returnCode, 0)
    t.strictSame((await client.expect('suback')).granted, [1])
    await client.disconnect()
  },
})

export const frameCases: FrameCase[] = [
  {
    name: 'a text frame in place of CONNECT closes',
    spec: 'MQTT-6.0.0-1',
    async run(t, link) {
      const client = await RawClient.open(link)
      t.teardown(() => client.reset())
      client.webSocket?.send(hello('badtext').toString('latin1'))
      t.strictSame(await client.expectClose(), [])
    },
  },
  {
    name: 'a text frame after CONNECT closes',
    spec: 'MQTT-6.0.0-1',
    async run(t, link) {
      const client = await connectRaw({ ...link, clientId: 'badtext' })
      t.teardown(() => client.reset())
      client.webSocket?.send(packets.publish({ topic: 'a', payload: 'all of it is ASCII' }).toString('latin1'))
      await client.expectClose()
    },
  },
  {
    name: 'another subprotocol than mqtt is refused',
    spec: 'MQTT-6.0.0-3',
    async run(t, link) {
      t.ok(await isRefused(link, ['chat']))
      t.ok(await isRefused(link, ['mqttx', 'amqp']))
    },
  },
  {
    name: 'no subprotocol is refused',
    spec: 'MQTT-6.0.0-3',
    async run(t, link) {
      t.ok(await isRefused(link, []))
    },
  },
  {
    name: 'mqtt is chosen among several subprotocols',
    spec: 'MQTT-6.0.0-4',
    async run(t, link) {
      const client = await connectRaw({ ...link, subprotocols: ['chat', 'mqtt'], clientId: 'frames' })
      t.equal(client.webSocket?.protocol, 'mqtt')
      await client.disconnect()
    },
  },
  {
    name: 'the broker answers in binary frames',
    spec: 'MQTT-6.0.0-1',
    async run(t, link) {
      const client = await RawClient.open(link)
      t.teardown(() => client.reset())
      const kinds: boolean[] = []
      client.webSocket?.on('message', (_content, isBinary) => kinds.push(isBinary))
      await client.connect({ clientId: 'frames' })
      await client.ping()
      t.ok(kinds.length > 0 && kinds.every((isBinary) => isBinary))
    },
  },
  answered('a packet in many frames of one byte', (client, content) => {
    for (const byte of content) client.send(Buffer.of(byte))
  }),
  answered('several packets in one frame', (client, content) => client.send(content)),
  answered('frames that end within packets', (client, content) => {
    for (let at = 0; at < content.length; at += 7) client.send(content.subarray(at, at + 7))
  }),
  answered('a message of several fragments', (client, content) => {
    client.webSocket?.send(content.subarray(0, 3), { binary: true, fin: false })
    client.webSocket?.send(content.subarray(3, 20), { binary: true, fin: false })
    client.webSocket?.send(content.subarray(20), { binary: true, fin: true })
  }),
  answered('empty frames between the packets', (client, content) => {
    client.send(Buffer.of())
    client.send(content)
    client.send(Buffer.of())
  }),
  {
    name: 'a ping of the WebSocket is answered',
    spec: 'RFC 6455 section 5.5.2',
    async run(t, link) {
      const client = await connectRaw({ ...link, clientId: 'frames' })
      t.teardown(() => client.reset())
      const { webSocket } = client
      if (webSocket === undefined) throw new Error('not a WebSocket')
      const pong = once(webSocket, 'pong', { signal: AbortSignal.timeout(5_000) })
      webSocket.ping('p')
      t.equal(String((await pong)[0]), 'p')
    },
  },
  {
    name: 'a frame of 8 MB closes, whatever it holds',
    spec: 'section 5.4.8',
    async run(t, link) {
      const client = await connectRaw({ ...link, clientId: 'badframe' })
      t.teardown(() => client.reset())
      client.send(packets.publish({ topic: 'a', payload: Buffer.alloc(8 * 1024 * 1024) }))
      await client.expectClose()
    },
  },
  {
    name: 'a close frame without DISCONNECT sends the will',
    spec: 'MQTT-3.1.2-8',
    async run(t, link) {
      const topic = `frames/will/${Math.random().toString(36).slice(2)}`
      const watcher = await connectRaw({ ...link, clientId: 'frameswatcher' })
      t.teardown(() => watcher.reset())
      await watcher.subscribe([topic, 1])
      const client = await connectRaw({ ...link, clientId: 'frames', will: { topic, payload: 'gone', qos: 1 } })
      await client.end()
      t.equal((await watcher.message(topic)).payload.toString(), 'gone')
    },
  },
]
