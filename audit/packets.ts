/**
 * The packets of MQTT 3.1.1 that the audit's clients and its fuzzer send, built without any check, and a reader that cuts
 * what arrives into packets.
 */

export const packetType = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  pingreq: 12,
  disconnect: 14,
} as const

const uint16 = (value: number): Buffer => Buffer.of((value >> 8) & 0xff, value & 0xff)

function text(value: string): Buffer {
  const content = Buffer.from(value)
  return Buffer.concat([uint16(content.length), content])
}

function remainingLength(length: number): Buffer {
  const digits: number[] = []
  let rest = length
  do {
    digits.push((rest % 128) + (rest >= 128 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Buffer.from(digits)
}

/** A packet of any type and flags with the length that fits its body. */
export function packet(type: number, flags: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.of((type << 4) | flags), remainingLength(body.length), body])
}

export interface ConnectFields {
  clientId: string
  clean: boolean
  keepaliveSeconds: number
  username: string
  password: string
  /** As every client must send it when left out. */
  protocol?: { name: string; level: number }
  will?: { topic: string; payload: string; qos: number; retain: boolean }
}

const usualProtocol = { name: 'MQTT', level: 4 }

export function connect({ clientId, clean, keepaliveSeconds, username, password, protocol = usualProtocol, will }: ConnectFields): Buffer {
  const willFlags = will === undefined ? 0 : 4 | (will.qos << 3) | (will.retain ? 0x20 : 0)
  return packet(
    packetType.connect,
    0,
    text(protocol.name),
    Buffer.of(protocol.level, (clean ? 2 : 0) | 0xc0 | willFlags),
    uint16(keepaliveSeconds),
    text(clientId),
    ...(will === undefined ? [] : [text(will.topic), text(will.payload)]),
    text(username),
    text(password),
  )
}

export interface PublishFields {
  topic: string
  payload: string
  qos: number
  packetId: number
  dup: boolean
  retain?: boolean
}

export function publish({ topic, payload, qos, packetId, dup, retain = false }: PublishFields): Buffer {
  const id = qos > 0 ? uint16(packetId) : Buffer.alloc(0)
  return packet(packetType.publish, (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0), text(topic), id, Buffer.from(payload))
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export const acknowledgement = (type: number, packetId: number): Buffer =>
  packet(type, type === packetType.pubrel ? 2 : 0, uint16(packetId))

export const puback = (packetId: number): Buffer => Buffer.of(0x40, 2, packetId >> 8, packetId & 0xff)

export const subscribe = (packetId: number, filters: readonly string[], qos: number): Buffer =>
  packet(packetType.subscribe, 2, uint16(packetId), ...filters.flatMap((filter) => [text(filter), Buffer.of(qos)]))

export const unsubscribe = (packetId: number, filter: string): Buffer => packet(packetType.unsubscribe, 2, uint16(packetId), text(filter))

export const pingreq: Buffer = packet(packetType.pingreq, 0)
export const disconnect: Buffer = packet(packetType.disconnect, 0)

/** Collects what a socket delivers and gives each whole packet: its first byte and its body, valid during the call only. */
export class PacketReader {
  #rest: Buffer = Buffer.alloc(0)

  /** Throws when the stream cannot be MQTT. */
  push(chunk: Buffer, take: (first: number, body: Buffer) => void): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    for (;;) {
      const frame = frameAt(bytes, at)
      if (frame === undefined) break
      take(bytes[at] as number, bytes.subarray(frame.start, frame.end))
      at = frame.end
    }
    this.#rest = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at))
  }
}

function frameAt(bytes: Buffer, at: number): { start: number; end: number } | undefined {
  let length = 0
  for (let i = 1; i < 5; i++) {
    const digit = bytes[at + i]
    if (digit === undefined) return undefined
    length |= (digit & 0x7f) << (7 * (i - 1))
    if (digit < 0x80) {
      const start = at + i + 1
      return start + length > bytes.length ? undefined : { start, end: start + length }
    }
  }
  throw new Error('the server sent a remaining length of more than 4 bytes')
}
