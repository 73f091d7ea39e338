/**
 * As much of RFC 6455 as an MQTT client needs: the upgrade, one masked binary frame for each write, and a reader that passes the
 * payload of frames on as it comes, since MQTT packets need not keep to frames [MQTT-6.0.0-4].
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Endpoint, Wire, WireEvents } from './wire.js'

const opcode = { continuation: 0, binary: 2, close: 8, ping: 9, pong: 10 } as const
const acceptSuffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const responseBytesMax = 16 * 1024
const controlBytesMax = 125

export interface WebSocketHandler {
  /** A part of a binary frame's payload, only valid during the call. */
  payload(bytes: Buffer, length: number): void
  ping(payload: Buffer): void
  closed(): void
}

/** A frame to the server, masked with four random bytes as the RFC wants it; the payload is copied. */
export function encodeWebSocketFrame(payload: Uint8Array, code: number = opcode.binary): Buffer {
  const size = payload.length
  const lengthBytes = size < 126 ? 0 : size < 65_536 ? 2 : 8
  const frame = Buffer.allocUnsafe(2 + lengthBytes + 4 + size)
  frame[0] = 0x80 | code
  frame[1] = 0x80 | (lengthBytes === 0 ? size : lengthBytes === 2 ? 126 : 127)
  if (lengthBytes === 2) frame.writeUInt16BE(size, 2)
  if (lengthBytes === 8) frame.writeBigUInt64BE(BigInt(size), 2)
  const maskAt = 2 + lengthBytes
  const at = maskAt + 4
  frame.writeUInt32LE((Math.random() * 2 ** 32) >>> 0, maskAt)
  for (let i = 0; i < size; i++) frame[at + i] = (payload[i] as number) ^ (frame[maskAt + (i & 3)] as number)
  return frame
}

/** Cuts what a server sends into frames. Throws when it cannot be a WebSocket that carries MQTT. */
export class WebSocketReader {
  #header = Buffer.alloc(10)
  #headerBytes = 0
  #left = 0
  #code = 0
  #control: Buffer[] = []

  push(bytes: Buffer, length: number, handler: WebSocketHandler): void {
    let at = 0
    while (at < length) {
      if (this.#left === 0) {
        this.#header[this.#headerBytes++] = bytes[at++] as number
        if (this.#headerBytes >= this.#headerLength()) this.#begin(handler)
        continue
      }
      const end = Math.min(length, at + this.#left)
      this.#left -= end - at
      this.#take(bytes.subarray(at, end), handler)
      at = end
    }
  }

  #headerLength(): number {
    if (this.#headerBytes < 2) return 2
    const size = (this.#header[1] as number) & 127
    return size < 126 ? 2 : size === 126 ? 4 : 10
  }

  #begin(handler: WebSocketHandler): void {
    const [first, second] = [this.#header[0] as number, this.#header[1] as number]
    if ((second & 0x80) !== 0) throw new Error('the broker sent a masked WebSocket frame, which only clients do')
    const length = this.#headerLength()
    this.#headerBytes = 0
    this.#code = first & 15
    this.#left = length === 2 ? second : length === 4 ? this.#header.readUInt16BE(2) : Number(this.#header.readBigUInt64BE(2))
    const isControl = this.#code >= opcode.close
    if (isControl && this.#left > controlBytesMax) throw new Error(`the broker sent a WebSocket control frame of ${this.#left} bytes`)
    if (!isControl && this.#code !== opcode.binary && this.#code !== opcode.continuation) {
      throw new Error(`the broker sent a WebSocket frame with opcode ${this.#code}; MQTT comes in binary frames`)
    }
    if (this.#left === 0) this.#take(Buffer.alloc(0), handler)
  }

  #take(part: Buffer, handler: WebSocketHandler): void {
    if (this.#code < opcode.close) {
      if (part.length > 0) handler.payload(part, part.length)
      return
    }
    this.#control.push(Buffer.from(part))
    if (this.#left > 0) return
    const payload = Buffer.concat(this.#control)
    this.#control = []
    if (this.#code === opcode.ping) handler.ping(payload)
    if (this.#code === opcode.close) handler.closed()
  }
}

/** The head of the server's answer when all of it is there. Throws when it does not agree to the upgrade. */
export function parseUpgrade(response: Buffer, key: string): { bodyAt: number } | undefined {
  const end = response.indexOf('\r\n\r\n')
  if (end === -1) {
    if (response.length > responseBytesMax) throw new Error(`the answer to the WebSocket upgrade is longer than ${responseBytesMax} bytes`)
    return undefined
  }
  const [status = '', ...headers] = response.toString('latin1', 0, end).split('\r\n')
  if (!/^HTTP\/1\.1 101\b/.test(status)) throw new Error(`the WebSocket upgrade was answered with: ${status}`)
  const accept = createHash('sha1')
    .update(key + acceptSuffix)
    .digest('base64')
  const said = headers.find((header) => /^sec-websocket-accept:/i.test(header))
  if (said?.slice(said.indexOf(':') + 1).trim() !== accept) throw new Error('the answer to the WebSocket upgrade has the wrong accept key')
  return { bodyAt: end + 4 }
}

/** `open` opens the TCP connection below. */
export function createWebSocketWire({ host, port, path }: Endpoint, events: WireEvents, open: (events: WireEvents) => Wire): Wire {
  const key = randomBytes(16).toString('base64')
  const reader = new WebSocketReader()
  let response: Buffer | undefined = Buffer.alloc(0)
  let early: Buffer[] = []
  const fail = (error: unknown): void => {
    tcp.destroy()
    events.closed(error instanceof Error ? error.message : String(error))
  }
  const handler: WebSocketHandler = {
    payload: (bytes, length) => events.data(bytes, length),
    ping: (payload) => void tcp.write(encodeWebSocketFrame(payload, opcode.pong)),
    closed: () => void tcp.destroy(),
  }
  const upgrade = (bytes: Buffer, length: number): void => {
    const all: Buffer = Buffer.concat([response as Buffer, bytes.subarray(0, length)])
    response = all
    const head = parseUpgrade(all, key)
    if (head === undefined) return
    response = undefined
    for (const frame of early) tcp.write(frame)
    early = []
    reader.push(all.subarray(head.bodyAt), all.length - head.bodyAt, handler)
  }
  const tcp = open({
    data(bytes, length) {
      try {
        if (response === undefined) reader.push(bytes, length, handler)
        else upgrade(bytes, length)
      } catch (error) {
        fail(error)
      }
    },
    closed: (reason) => events.closed(reason),
  })
  const lines = [`GET ${path} HTTP/1.1`, `Host: ${host}:${port}`, 'Upgrade: websocket', 'Connection: Upgrade']
  lines.push(`Sec-WebSocket-Key: ${key}`, 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Protocol: mqtt')
  tcp.write(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`))
  return {
    get isDestroyed() {
      return tcp.isDestroyed
    },
    write(bytes) {
      const frame = encodeWebSocketFrame(bytes)
      if (response === undefined) tcp.write(frame)
      else early.push(frame)
      return true
    },
    pause: () => tcp.pause(),
    resume: () => tcp.resume(),
    end: (bytes) => tcp.end(Buffer.concat([encodeWebSocketFrame(bytes), encodeWebSocketFrame(Buffer.alloc(0), opcode.close)])),
    destroy: () => tcp.destroy(),
    reset: () => tcp.reset(),
  }
}
