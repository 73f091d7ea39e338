/**
 * A failing subject for the audit: stock Aedes with persistent sessions in memory, on which chat topics are plain topics that
 * clients subscribe to. A program of its own; it prints its ports as Parley does. Beside Aedes it does what an
 * application on it would do: it numbers messages as they are published, keeps them, and shows them by HTTP.
 */
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { Aedes, type AedesPublishPacket, type Client } from 'aedes'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { conversationOf, deliveryTopic, eventTopic, groupConversation, isGroup, peerOf } from '../../broker/topics.js'

type Message = { seq: number } & Record<string, unknown>

const log = new Map<string, Message[]>()

function append(conv: string, fields: Record<string, unknown>): Message {
  const messages = log.get(conv) ?? []
  log.set(conv, messages)
  const message = { seq: messages.length + 1, ts: Date.now(), ...fields }
  messages.push(message)
  return message
}

const userOf = (client: Client | null): string => client?.id.split('/')[0] ?? ''

function stamp(client: Client | null, packet: AedesPublishPacket): void {
  const from = userOf(client)
  const address = packet.topic.slice(0, packet.topic.lastIndexOf('/'))
  const conv = conversationOf(address, from) ?? address
  const text = packet.payload.toString()
  const sent = text.startsWith('{')
    ? (JSON.parse(text) as { id: string; type?: string; body: unknown })
    : { id: `plain-${text}`, body: text }
  const { id, type = 'text', body } = sent
  const receiver = isGroup(conv) ? { group: conv.slice(2) } : { to: peerOf(conv, from) }
  const message = Buffer.from(JSON.stringify(append(conv, { from, ...receiver, id, type, body })))
  packet.payload = message
  // The sender's other devices.
  if (!isGroup(conv)) broker.publish({ ...packet, cmd: 'publish', topic: deliveryTopic(conv, from), payload: message }, () => undefined)
}

const broker = await Aedes.createBroker({
  concurrency: 100_000,
  preConnect: (_client, packet, callback) => {
    packet.clientId = `${packet.username}/${packet.clientId}`
    callback(null, true)
  },
  authorizePublish: (client, packet, callback) => {
    // Of read positions and typing it knows nothing.
    if (packet.topic.endsWith('/msg')) stamp(client, packet as AedesPublishPacket)
    callback(null)
  },
})
broker.on('clientReady', (client) => {
  const packet = { cmd: 'publish', topic: eventTopic(userOf(client)), payload: '{"type":"ready","replayed":0,"heads":{}}', qos: 0 }
  client.publish({ ...packet, retain: false, dup: false } as never, () => undefined)
})
broker.on('clientError', () => undefined)
broker.on('connectionError', () => undefined)

interface Params {
  group: string
  members: string[]
  conv: string
  after?: number
  limit?: number
}

/** Methods of Parley that the audit needs, over what this process remembers. */
const methods: Record<string, (user: string, params: Params) => object | undefined> = {
  users: () => ({}),
  'group.create': (from, { group, members }) =>
    append(groupConversation(group), { from, group, id: 'created', type: 'system', body: { event: 'created', users: members } }),
  history: (user, { conv, after = 0, limit = 50 }) => {
    const messages = log.get(conversationOf(conv, user) ?? '')
    return messages === undefined ? undefined : { messages: messages.slice(after, after + limit), head: messages.length }
  },
  sync: () => ({ messages: [], heads: {}, more: false }),
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  const method = methods[request.url?.split('/').at(-1) ?? '']
  const claims = request.headers.authorization?.split('.')[1] ?? 'e30'
  const { sub = '' } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { sub?: string }
  const result = method?.(sub, JSON.parse(text === '' ? '{}' : text) as Params)
  response.writeHead(result === undefined ? 404 : 200).end(JSON.stringify(result ?? {}))
}

const mqtt = createServer({ noDelay: true }, (socket) => void broker.handle(socket))
const http = createHttp((request, response) => void answer(request, response))
new WebSocketServer({ server: http, handleProtocols: () => 'mqtt' }).on('connection', (socket) => {
  const stream = createWebSocketStream(socket)
  stream.on('error', () => socket.terminate())
  broker.handle(stream as never)
})
mqtt.listen(0, '127.0.0.1', () => {
  http.listen(0, '127.0.0.1', () => {
    const [mqttPort, httpPort] = [mqtt, http].map((server) => (server.address() as AddressInfo).port)
    process.stderr.write(`${JSON.stringify({ level: 'info', msg: 'listening', mqttPort, httpPort })}\n`)
  })
})
process.on('SIGTERM', () => process.exit())
