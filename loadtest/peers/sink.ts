/**
 * Yardstick: a relay that does the least a broker can do: it answers PUBLISH with PUBACK, copies the frame to whoever subscribed to exactly
 * that topic, stores nothing, forgets PUBACKs, and writes once per socket and turn. What the load client reaches here is its own limit.
 */
import type { Socket } from 'node:net'
import { encodeFrame, type FrameHandler, FrameReader, packet, qos1Publish } from '../frames.js'
import { announce, listenTcp, portArguments } from './listen.js'

const idleFrame = Buffer.alloc(0)

/** What one topic's subscribers get at the end of this turn. */
class Channel {
  readonly members = new Set<Connection>()
  #frames: Buffer[] = []

  publish(frame: Buffer): void {
    if (this.#frames.length === 0) setImmediate(() => this.#flush())
    this.#frames.push(frame)
  }

  #flush(): void {
    const bytes = this.#frames.length === 1 ? (this.#frames[0] ?? idleFrame) : Buffer.concat(this.#frames)
    this.#frames = []
    for (const member of this.members) member.socket.write(bytes)
  }
}

const channels = new Map<string, Channel>()

function channelFor(topic: string): Channel {
  let channel = channels.get(topic)
  if (channel === undefined) {
    channel = new Channel()
    channels.set(topic, channel)
  }
  return channel
}

class Connection implements FrameHandler {
  readonly reader = new FrameReader()
  readonly #joined: Channel[] = []
  #lastTopic = idleFrame
  #lastChannel: Channel | undefined
  #answers: Buffer[] = []

  constructor(readonly socket: Socket) {}

  read(bytes: Buffer): void {
    this.reader.push(bytes, bytes.length, this)
    if (this.#answers.length === 0) return
    this.socket.write(Buffer.concat(this.#answers))
    this.#answers = []
  }

  leave(): void {
    for (const channel of this.#joined) channel.members.delete(this)
  }

  frame(head: number, bytes: Buffer, start: number, end: number): void {
    if (head === packet.puback) return
    if ((head & 0xf0) === packet.publish) this.#relay(bytes, start, end)
    else if (head === packet.connect) this.#answers.push(Buffer.from([packet.connack, 2, 0, 0]))
    else if (head === packet.subscribe) this.#subscribe(bytes, start)
    else if (head === packet.pingreq) this.#answers.push(Buffer.from([packet.pingresp, 0]))
  }

  #relay(bytes: Buffer, start: number, end: number): void {
    const topicEnd = start + 2 + bytes.readUInt16BE(start)
    this.#answers.push(Buffer.from([packet.puback, 2, bytes[topicEnd] as number, bytes[topicEnd + 1] as number]))
    if (this.#lastChannel === undefined || bytes.compare(this.#lastTopic, 0, this.#lastTopic.length, start, topicEnd) !== 0) {
      this.#lastTopic = Buffer.from(bytes.subarray(start, topicEnd))
      this.#lastChannel = channelFor(this.#lastTopic.toString('utf8', 2))
    }
    this.#lastChannel.publish(encodeFrame(qos1Publish, bytes.subarray(start, end)))
  }

  #subscribe(bytes: Buffer, start: number): void {
    const topicAt = start + 4
    const channel = channelFor(bytes.toString('utf8', topicAt, topicAt + bytes.readUInt16BE(start + 2)))
    channel.members.add(this)
    this.#joined.push(channel)
    this.#answers.push(Buffer.from([packet.suback, 3, bytes[start] as number, bytes[start + 1] as number, 1]))
  }
}

const [tcpPort] = portArguments()
await listenTcp(tcpPort, (socket) => {
  const connection = new Connection(socket)
  socket.on('data', (chunk: Buffer) => connection.read(chunk))
  socket.on('error', () => socket.destroy())
  socket.on('close', () => connection.leave())
})
announce()
