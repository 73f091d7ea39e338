/**
 * An MQTT client that costs less than any broker: all clients of a process share one read and one write buffer, what one
 * read calls for (PUBACKs, new sends) leaves in one write, and nothing is allocated per packet. It answers each QoS 1
 * delivery itself and hands the rest to its listener, synchronously.
 */
import {
  encodeConnect,
  encodeDisconnect,
  encodePing,
  encodePublish,
  encodeSignal,
  encodeSubscribe,
  type FrameHandler,
  FrameReader,
  type Identity,
  packet,
} from './frames.js'
import { createWire, type Endpoint, type Wire } from './wire.js'

const keepaliveSeconds = 120
const answerMsDefault = 20_000
const writeBytes = 64 * 1024
/** Packet ids from here on belong to SUBSCRIBE and requests, those below to the load. */
export const firstControlId = 60_000
const packetIdMax = 65_535
const readyMark = Buffer.from('{"type":"ready"')
const receiptMark = Buffer.from('{"type":"receipt"')

let writeBuffer = Buffer.allocUnsafeSlow(writeBytes)

export interface ClientListener {
  /** A message for this client; the bytes are only valid during the call. */
  delivered(bytes: Buffer, start: number, end: number): void
  /** The result of a send, on `u/{me}/ack`. */
  acked(bytes: Buffer, start: number, end: number): void
  /** Somebody is writing, or a peer has received or read. */
  heard?(what: 'typing' | 'receipt'): void
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
  readonly #wire: Wire
  readonly #reader = new FrameReader()
  readonly #waiters = new Map<string, Waiter>()
  readonly #label: string
  #pending = 0
  #closing = false
  #nextControlId = firstControlId

  /** `answerMs` bounds the wait for each single answer of the broker. */
  constructor(
    endpoint: Endpoint,
    label: string,
    readonly answerMs: number = answerMsDefault,
  ) {
    this.#label = label
    this.#wire = createWire(endpoint, {
      data: (bytes, length) => this.#read(bytes, length),
      closed: (reason) => this.#end(reason),
    })
  }

  /** Resolves when CONNACK accepts, with whether the broker had a session stored. */
  async connect(identity: Identity): Promise<'session-present' | 'new-session'> {
    this.#wire.write(encodeConnect(identity, keepaliveSeconds))
    return (await this.#answer('connack', 'CONNACK')) === '1' ? 'session-present' : 'new-session'
  }

  /** Resolves with the event that says that the backlog has been delivered. To be called together with `connect`. */
  ready(): Promise<string> {
    return this.#answer('ready', 'event `ready`')
  }

  async subscribe(filter: string): Promise<void> {
    const id = this.#controlId()
    this.#wire.write(encodeSubscribe(id, filter))
    await this.#answer(`suback ${id}`, `SUBACK for ${filter}`)
  }

  /** Publishes and waits for PUBACK. */
  async publish(topic: string, payload: string): Promise<void> {
    const id = this.#controlId()
    this.#wire.write(encodePublish(topic, id, Buffer.from(payload)))
    await this.#answer(`puback ${id}`, `PUBACK for ${topic}`)
  }

  /** Publishes with QoS 0. */
  signal(topic: string, payload: string): void {
    this.#wire.write(encodeSignal(topic, Buffer.from(payload)))
  }

  /** Calls an RPC method and returns the payload of the reply. One call at a time. */
  async call(method: string, params: object): Promise<string> {
    const reply = this.#answer('rpc', `reply to rpc/${method}`)
    const [payload] = await Promise.all([reply, this.publish(`rpc/${method}`, JSON.stringify({ id: 'load', params }))])
    return payload
  }

  /** Stops reading; the broker's writes pile up in the kernel and then at the broker. */
  freeze(): void {
    this.#wire.pause()
  }

  thaw(): void {
    this.#wire.resume()
  }

  ping(): void {
    this.#wire.write(encodePing())
  }

  /** Ends the session's connection and resolves when the socket is closed. What still arrives is neither counted nor answered. */
  async disconnect(): Promise<void> {
    if (this.#wire.isDestroyed) return
    this.#closing = true
    await this.#wire.end(encodeDisconnect())
  }

  abort(): void {
    this.#closing = true
    this.#wire.destroy()
  }

  /** Cuts the connection as a broken network does. */
  cut(): void {
    this.#closing = true
    this.#wire.reset()
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
    // The kernel took everything at once, or the buffer belongs to the wire from now on.
    if (!this.#wire.write(bytes)) writeBuffer = Buffer.allocUnsafeSlow(writeBytes)
  }

  frame(head: number, bytes: Buffer, start: number, end: number): void {
    if (this.#closing) return
    switch (head & 0xf0) {
      case packet.publish:
        this.#publish(head, bytes, start, end)
        break
      case packet.puback:
        this.#puback(((bytes[start] as number) << 8) | (bytes[start + 1] as number))
        break
      case packet.connack:
        this.#connack(bytes[start] as number, bytes[start + 1] as number)
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

  #controlId(): number {
    const id = this.#nextControlId
    this.#nextControlId = id === packetIdMax ? firstControlId : id + 1
    return id
  }

  #read(bytes: Buffer, length: number): void {
    if (this.#closing) return
    try {
      this.#reader.push(bytes, length, this)
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
    // The last level tells the topics of one client apart: …/msg, …/ack, …/rpc, …/event; signals are only answered.
    const last = bytes[topicEnd - 1]
    if (last === 0x67 && bytes[topicEnd - 3] === 0x6d) this.listener?.delivered(bytes, payload, end)
    else if (last === 0x67) this.listener?.heard?.('typing')
    else if (last === 0x6b) this.listener?.acked(bytes, payload, end)
    else if (last === 0x63) this.#settle('rpc', bytes.toString('utf8', payload, end))
    else if (last === 0x74) this.#event(bytes, payload, end)
  }

  #puback(packetId: number): void {
    if (packetId < firstControlId) this.listener?.confirmed(packetId)
    else this.#settle(`puback ${packetId}`, '')
  }

  #event(bytes: Buffer, start: number, end: number): void {
    const startsWith = (mark: Buffer): boolean =>
      end - start >= mark.length && bytes.compare(mark, 0, mark.length, start, start + mark.length) === 0
    if (this.#waiters.has('ready') && startsWith(readyMark)) this.#settle('ready', bytes.toString('utf8', start, end))
    else if (startsWith(receiptMark)) this.listener?.heard?.('receipt')
  }

  #connack(flags: number, code: number): void {
    if (code === 0) this.#settle('connack', String(flags & 1))
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
      const late = (): void => reject(new Error(`${this.#label}: no ${what} within ${this.answerMs / 1000} s`))
      const timer = setTimeout(late, this.answerMs)
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
    this.#wire.destroy()
    this.listener?.ended(reason)
  }
}
