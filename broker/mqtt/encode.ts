/** MQTT 3.1.1 packets that the server sends, as bytes. */

import { writeAscii, writeBytes } from '../ascii.js'

/**
 * A PUBLISH of QoS 1 on a chat topic (so of ASCII) for any number of receivers, each with its own packet id. For one it is written where
 * it leaves; for more it is encoded once and copied. The payload must not change.
 */
export class Frame {
  /** Bytes of the packet. */
  readonly length: number
  #wasWritten = false
  #encoded: Buffer | undefined

  constructor(
    readonly topic: string,
    readonly payload: Buffer,
  ) {
    this.length = publishHeadBytes(topic, anyPacketId, payload.length) + payload.length
  }

  /** Returns the offset behind it. */
  writeTo(out: Buffer, start: number, packetId: number): number {
    if (!this.#wasWritten) {
      this.#wasWritten = true
      return this.#write(out, start, packetId)
    }
    if (this.#encoded === undefined) {
      this.#encoded = Buffer.allocUnsafe(this.length)
      this.#write(this.#encoded, 0, anyPacketId)
    }
    const end = writeBytes(out, start, this.#encoded)
    const idAt = end - this.payload.length - 2
    out[idAt] = packetId >> 8
    out[idAt + 1] = packetId & 0xff
    return end
  }

  #write(out: Buffer, start: number, packetId: number): number {
    return writeBytes(out, writePublishHead(out, start, this.topic, packetId, this.payload.length), this.payload)
  }
}

/** Makes room for a packet id. */
const anyPacketId = 1

const lengthBytes = (length: number): number => (length < 128 ? 1 : length < 16_384 ? 2 : length < 2_097_152 ? 3 : 4)

/** Writes the remaining length [MQTT-2.2.3] and gives the offset behind it. */
function writeLength(bytes: Buffer, at: number, length: number): number {
  let rest = length
  let offset = at
  do {
    const digit = rest & 0x7f
    rest >>>= 7
    bytes[offset++] = rest > 0 ? digit | 0x80 : digit
  } while (rest > 0)
  return offset
}

/** Bytes of a PUBLISH on a chat topic (so of ASCII) before its payload. */
export function publishHeadBytes(topic: string, packetId: number, payloadBytes: number): number {
  const variable = 2 + topic.length + (packetId === 0 ? 0 : 2)
  return 1 + lengthBytes(variable + payloadBytes) + variable
}

/** Writes them: QoS 1 with `packetId`, or QoS 0 when it is 0. Returns the offset of the payload. */
export function writePublishHead(out: Buffer, start: number, topic: string, packetId: number, payloadBytes: number): number {
  out[start] = packetId === 0 ? 0x30 : 0x32
  let at = writeLength(out, start + 1, 2 + topic.length + (packetId === 0 ? 0 : 2) + payloadBytes)
  out[at] = topic.length >> 8
  out[at + 1] = topic.length & 0xff
  at = writeAscii(out, at + 2, topic)
  if (packetId === 0) return at
  out[at] = packetId >> 8
  out[at + 1] = packetId & 0xff
  return at + 2
}

/** A PUBLISH on a chat topic for one receiver: QoS 1 with `packetId`, or QoS 0 when it is 0. */
export function encodePublishOnce(topic: string, payload: string, packetId: number): Buffer {
  const payloadBytes = Buffer.byteLength(payload)
  const bytes = Buffer.allocUnsafe(publishHeadBytes(topic, packetId, payloadBytes) + payloadBytes)
  const at = writePublishHead(bytes, 0, topic, packetId, payloadBytes)
  bytes.write(payload, at, payloadBytes === payload.length ? 'latin1' : 'utf8')
  return bytes
}

export const connackBytes = (sessionPresent: 0 | 1, code: number): Buffer => Buffer.from([0x20, 2, sessionPresent, code])

export const pingrespBytes: Buffer = Buffer.from([0xd0, 0])

/** PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7). */
export const ackBytes = (type: 4 | 5 | 6 | 7, packetId: number): Buffer =>
  Buffer.from([(type << 4) | (type === 6 ? 2 : 0), 2, packetId >> 8, packetId & 0xff])

export function subackBytes(packetId: number, codes: readonly number[]): Buffer {
  const rest = 2 + codes.length
  const bytes = Buffer.allocUnsafe(1 + lengthBytes(rest) + rest)
  bytes[0] = 0x90
  const at = writeLength(bytes, 1, rest)
  bytes.writeUInt16BE(packetId, at)
  bytes.set(codes, at + 2)
  return bytes
}

/** A CONNECT without will, user and keepalive. */
export function connectBytes({ level, clean, clientId }: { level: number; clean: boolean; clientId: string }): Buffer {
  const name = Buffer.from(level === 3 ? '\0\x06MQIsdp' : '\0\x04MQTT', 'latin1')
  const id = Buffer.from(clientId)
  const rest = name.length + 6 + id.length
  const header = Buffer.allocUnsafe(1 + lengthBytes(rest))
  header[0] = 0x10
  writeLength(header, 1, rest)
  return Buffer.concat([header, name, Buffer.from([level, clean ? 2 : 0, 0, 0, id.length >> 8, id.length & 0xff]), id])
}

export function subscribeBytes(packetId: number, filters: readonly { filter: string; qos: number }[]): Buffer {
  return filterPacket(
    0x82,
    packetId,
    filters.flatMap(({ filter, qos }) => [textBytes(filter), Buffer.from([qos])]),
  )
}

export const unsubscribeBytes = (packetId: number, filters: readonly string[]): Buffer =>
  filterPacket(0xa2, packetId, filters.map(textBytes))

export const unsubackBytes = (packetId: number): Buffer => Buffer.from([0xb0, 2, packetId >> 8, packetId & 0xff])

function textBytes(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

function filterPacket(first: number, packetId: number, parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([packetId >> 8, packetId & 0xff]), ...parts])
  const header = Buffer.allocUnsafe(1 + lengthBytes(body.length))
  header[0] = first
  writeLength(header, 1, body.length)
  return Buffer.concat([header, body])
}
