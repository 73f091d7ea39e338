/**
 * The part of MQTT 3.1.1 that the load client and the sink speak. The reader cuts a byte stream into frames without
 * an object per frame; the functions below build the few packets that are sent outside the hot path.
 */

/** First byte of each packet (type and flags). */
export const packet = {
  connect: 0x10,
  connack: 0x20,
  publish: 0x30,
  puback: 0x40,
  subscribe: 0x82,
  suback: 0x90,
  pingreq: 0xc0,
  pingresp: 0xd0,
  disconnect: 0xe0,
} as const

export const qos1Publish = packet.publish | 0x02

/** Longest frame that the reader collects; a broker under test never has a reason to send more. */
export const frameBytesMax = 1 << 20

/** Gets each frame: its first byte and where its body lies in `bytes`, which is only valid during the call. */
export interface FrameHandler {
  frame(head: number, bytes: Buffer, start: number, end: number): void
}

/** Cuts what a socket delivers into frames. Keeps only the beginning of a frame that is not complete yet. */
export class FrameReader {
  #rest: Buffer | undefined

  /** Reads `chunk[0, length)`; the chunk may be reused after the call. Throws when the stream cannot be MQTT. */
  push(chunk: Buffer, length: number, handler: FrameHandler): void {
    let bytes = chunk
    let limit = length
    if (this.#rest !== undefined) {
      bytes = Buffer.concat([this.#rest, chunk.subarray(0, length)])
      limit = bytes.length
      this.#rest = undefined
    }
    let at = 0
    while (limit - at >= 2) {
      let body = at + 2
      let size = bytes[at + 1] as number
      if (size > 127) {
        const coded = remainingLength(bytes, at + 1, limit)
        if (coded === -1) break
        size = coded
        body = at + 1 + lengthBytes(size)
      }
      if (body + size > limit) break
      handler.frame(bytes[at] as number, bytes, body, body + size)
      at = body + size
    }
    if (at < limit) this.#rest = Buffer.from(bytes.subarray(at, limit))
  }
}

/** Value of a remaining-length field of two to four bytes, -1 while it is incomplete. */
function remainingLength(bytes: Buffer, at: number, limit: number): number {
  let size = 0
  for (let i = 0; i < 4; i++) {
    if (at + i >= limit) return -1
    const byte = bytes[at + i] as number
    size += (byte & 127) * 128 ** i
    if (byte < 128) {
      if (size > frameBytesMax) throw new Error(`the broker sent a frame of ${size} bytes; the limit is ${frameBytesMax}`)
      return size
    }
  }
  throw new Error('the broker sent a remaining length of more than four bytes')
}

/** How many bytes a remaining length takes. */
export const lengthBytes = (size: number): number => (size < 128 ? 1 : size < 16_384 ? 2 : size < 2_097_152 ? 3 : 4)

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
}

/** One whole packet from its first byte and the parts of its body. */
export function encodeFrame(head: number, ...parts: Uint8Array[]): Buffer {
  let size = parts.reduce((sum, part) => sum + part.length, 0)
  const header = [head]
  do {
    const byte = size & 127
    size >>= 7
    header.push(size > 0 ? byte | 128 : byte)
  } while (size > 0)
  return Buffer.concat([Buffer.from(header), ...parts])
}

export interface Identity {
  clientId: string
  clean: boolean
  /** Absent on brokers that take anybody. */
  username?: string
  password?: string
}

export function encodeConnect({ clientId, clean, username, password }: Identity, keepaliveSeconds: number): Buffer {
  const flags = (clean ? 0x02 : 0) | (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40)
  const variable = Buffer.from([4, flags, keepaliveSeconds >> 8, keepaliveSeconds & 255])
  const credentials = [username, password].filter((value) => value !== undefined).map(text)
  return encodeFrame(packet.connect, text('MQTT'), variable, text(clientId), ...credentials)
}

export const encodeSubscribe = (packetId: number, filter: string): Buffer =>
  encodeFrame(packet.subscribe, Buffer.from([packetId >> 8, packetId & 255]), text(filter), Buffer.from([1]))

/** A PUBLISH of QoS 1; the packet id stands right before the payload. */
export const encodePublish = (topic: string, packetId: number, payload: Uint8Array): Buffer =>
  encodeFrame(qos1Publish, text(topic), Buffer.from([packetId >> 8, packetId & 255]), payload)

/** A PUBLISH of QoS 0. */
export const encodeSignal = (topic: string, payload: Uint8Array): Buffer => encodeFrame(packet.publish, text(topic), payload)

export const encodePing = (): Buffer => Buffer.from([packet.pingreq, 0])
export const encodeDisconnect = (): Buffer => Buffer.from([packet.disconnect, 0])
