/**
 * An MQTT client that costs less than any broker: all clients of a process share one read and one write buffer, what one
 * read calls for (PUBACKs, new sends) leaves in one write, and nothing is allocated per packet. It answers each QoS 1
 * delivery itself and hands the rest to its listener, synchronously.
 */
import { connect, type Socket } from 'node:net'
import {
  encodeConnect,
  encodeDisconnect,
  encodePing,
  encodePublish,
  encodeSubscribe,
  type FrameHandler,
  FrameReader,
  type Identity,
  packet,
} from './frames.js'

const keepaliveSeconds = 120
const answerMs = 20_000
const readBytes = 64 * 1024
const writeBytes = 64 * 1024
/** Packet ids from here on belong to SUBSCRIBE and requests, those below to the load. */
export const firstControlId = 60_000

const readBuffer = Buffer.allocUnsafeSlow(readBytes)
let writeBuffer = Buffer.allocUnsafeSlow(writeBytes)

export interface ClientListener {
  /** A message for this client; the bytes are only valid during the call. */
  delivered(bytes: Buffer, start: number, end: number): void
  /** The result of a send, on `u/{me}/ack`. */
  acked(bytes: Buffer, start: number, end: number): void
  /** A PUBACK for a packet id below `firstControlId`. */
  confirmed(packetId: number): void
  /** The connection ended without our doing. Called once. */
  ended(reason: string): void
}

interface Waiter {
  resolve(value: string): void
  reject(reason: Error): void
}

export class LeanClient implements FrameHandler {
  listener: ClientListener | undefined
  readonly #socket: Socket
  readonly #reader = new FrameReader()
  readonly #waiters = new Map<string, Waiter>()
  readonly #label: string
  #pending = 0
  #closing = false
  #nextControlId = firstControlId

  constructor(endpoint: { host: string; port: number }, label: string) {
    this.#label = label
    const callback = (bytes: number): boolean => {
      this.#read(bytes)
      return true
    }
    this.#socket = connect({ ...endpoint, noDelay: true, onread: { buffer: readBuffer, callback } })
    this.#socket.on('error', (error) => this.#end(error.message))
    this.#socket.on('close', () => this.#end('closed by the broker'))
    this.#socket.resume()
  }

  /** Resolves when CONNACK accepts. */
  async connect(identity: Identity): Promise<void> {
    this.#socket.write(encodeConnect(identity, keepaliveSeconds))
    await this.#answer('connack', 'CONNACK')
  }

  async subscribe(filter: string): Promise<void> {
    const id = this.#nextControlId++
    this.#socket.write(encodeSubscribe(id, filter))
    await this.#answer(`suback ${id}`, `SUBACK for ${filter}`)
  }

  /** Publishes and waits for PUBACK. */
  async publish(topic: string, payload: string): Promise<void> {
    const id = this.#nextControlId++
    this.#socket.write(encodePublish(topic, id, Buffer.from(payload)))
    await this.#answer(`puback ${id}`, `PUBACK for ${topic}`)
  }

  /** Calls an RPC method and returns the payload of the reply. */
  async call(method: string, params: object): Promise<string> {
    const reply = this.#answer('rpc', `reply to rpc/${method}`)
    await this.publish(`rpc/${method}`, JSON.stringify({ id: 'load', params }))
    return reply
  }

  /** Stops reading; the broker's writes pile up in the kernel and then at the broker. */
  freeze(): void {
    this.#socket.pause()
  }

  thaw(): void {
    this.#socket.resume()
  }

  ping(): void {
    this.#socket.write(encodePing())
  }

  /** Ends the session's connection and resolves when the socket is closed. */
  async disconnect(): Promise<void> {
    if (this.#socket.destroyed) return
    this.#closing = true
    const closed = new Promise((resolve) => this.#socket.once('close', resolve))
    this.#socket.end(encodeDisconnect())
    this.#socket.resume()
    await closed
  }

  abort(): void {
    this.#closing = true
    this.#socket.destroy()
  }

  /** Lets `write` put up to `bytes` bytes at the given index; it returns the index after them. They leave with the next flush. */
  append(bytes: number, write: (target: Buffer, at: number) => number): void {
    if (this.#pending + bytes > writeBytes) this.flush()
    this.#pending = write(writeBuffer, this.#pending)
  }

  /** Sends what was appended outside of a listener's call. */
  flush(): void {
    if (this.#pending === 0) return
    const bytes = writeBuffer.subarray(0, this.#pending)
    this.#pending = 0
    this.#socket.write(bytes)
    // The kernel took everything at once, or the buffer belongs to the socket from now on.
    if (this.#socket.writableLength > 0) writeBuffer = Buffer.allocUnsafeSlow(writeBytes)
  }

  frame(head: number, bytes: Buffer, start: number, end: number): void {
    switch (head & 0xf0) {
      case packet.publish:
        this.#publish(head, bytes, start, end)
        break
      case packet.puback:
        this.#puback(((bytes[start] as number) << 8) | (bytes[start + 1] as number))
        break
      case packet.connack:
        this.#connack(bytes[start + 1] as number)
        break
      case packet.suback & 0xf0:
        this.#suback(bytes, start, end)
        break
      case packet.pingresp:
        break
      default:
        this.#end(`the broker sent a packet of type ${head >> 4}, which no broker sends to this client`)
    }
  }

  #read(length: number): void {
    try {
      this.#reader.push(readBuffer, length, this)
    } catch (error) {
      this.#end(error instanceof Error ? error.message : String(error))
      this.abort()
      return
    }
    this.flush()
  }

  #publish(head: number, bytes: Buffer, start: number, end: number): void {
    const topicEnd = start + 2 + (((bytes[start] as number) << 8) | (bytes[start + 1] as number))
    let payload = topicEnd
    if ((head & 0x06) !== 0) {
      if (this.#pending + 4 > writeBytes) this.flush()
      const at = this.#pending
      writeBuffer[at] = packet.puback
      writeBuffer[at + 1] = 2
      writeBuffer[at + 2] = bytes[topicEnd] as number
      writeBuffer[at + 3] = bytes[topicEnd + 1] as number
      this.#pending = at + 4
      payload += 2
    }
    // The last level tells the topics of one client apart: …/msg, …/ack, …/rpc; …/event and signals are only answered.
    const last = bytes[topicEnd - 1]
    if (last === 0x67 && bytes[topicEnd - 3] === 0x6d) this.listener?.delivered(bytes, payload, end)
    else if (last === 0x6b) this.listener?.acked(bytes, payload, end)
    else if (last === 0x63) this.#settle('rpc', bytes.toString('utf8', payload, end))
  }

  #puback(packetId: number): void {
    if (packetId < firstControlId) this.listener?.confirmed(packetId)
    else this.#settle(`puback ${packetId}`, '')
  }

  #connack(code: number): void {
    if (code === 0) this.#settle('connack', '')
    else this.#end(`CONNECT was refused with return code ${code}`)
  }

  #suback(bytes: Buffer, start: number, end: number): void {
    const packetId = ((bytes[start] as number) << 8) | (bytes[start + 1] as number)
    if (bytes[end - 1] === 0x80) this.#end('SUBSCRIBE was refused with 0x80')
    else this.#settle(`suback ${packetId}`, '')
  }

  #settle(key: string, value: string): void {
    this.#waiters.get(key)?.resolve(value)
    this.#waiters.delete(key)
  }

  #answer(key: string, what: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const late = (): void => reject(new Error(`${this.#label}: no ${what} within ${answerMs / 1000} s`))
      const timer = setTimeout(late, answerMs)
      this.#waiters.set(key, {
        resolve: (value) => {
          clearTimeout(timer)
          resolve(value)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
    })
  }

  #end(reason: string): void {
    if (this.#closing) return
    this.#closing = true
    for (const waiter of this.#waiters.values()) waiter.reject(new Error(`${this.#label}: ${reason}`))
    this.#waiters.clear()
    this.#socket.destroy()
    this.listener?.ended(reason)
  }
}
