/**
 * MQTT 3.1.1 packets as bytes, built without any check, so that tests can build illegal ones: every flag, every length
 * and every string may be wrong. Strings may be given as a Buffer to hold bytes that are not UTF-8.
 */
export type Text = string | Buffer
export type Part = number | Text

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
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
} as const

/** Numbers are single bytes, text is taken as it is, without a length. */
export const bytes = (...parts: Part[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part as Buffer))))

/** `10 ff 00` → bytes. */
export const hex = (digits: string): Buffer => Buffer.from(digits.replaceAll(/\s/g, ''), 'hex')

export const uint16 = (value: number): Buffer => Buffer.of((value >> 8) & 0xff, value & 0xff)

/** A string with its two bytes of length before it. */
export function text(value: Text): Buffer {
  const content = Buffer.from(value as Buffer)
  return bytes(uint16(content.length), content)
}

export function remainingLength(length: number): Buffer {
  const digits: number[] = []
  let rest = length
  do {
    digits.push((rest % 128) + (rest >= 128 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Buffer.from(digits)
}

/** A packet of any type (0–15) with any flags (0–15) and the length that fits its parts. */
export function packet(type: number, flags: number, ...parts: Part[]): Buffer {
  const body = bytes(...parts)
  return bytes((type << 4) | flags, remainingLength(body.length), body)
}

export interface Will {
  topic: Text
  payload?: Text
  qos?: number
  retain?: boolean
}

export interface ConnectFields {
  clientId?: Text
  clean?: boolean
  keepaliveS?: number
  will?: Will
  username?: Text
  password?: Text
  protocolName?: Text
  level?: number
  /** In place of the connect flags that follow from the other fields. */
  connectFlags?: number
  /** Flags of the fixed header; 0 is legal. */
  headerFlags?: number
  /** Bytes after the payload. */
  excess?: Buffer
}

function connectFlagsOf({ clean = true, will, username, password }: ConnectFields): number {
  const willFlags = will === undefined ? 0 : 4 | ((will.qos ?? 0) << 3) | (will.retain ? 32 : 0)
  return (clean ? 2 : 0) | willFlags | (password === undefined ? 0 : 64) | (username === undefined ? 0 : 128)
}

export function connect(fields: ConnectFields = {}): Buffer {
  const { will, username, password } = fields
  return packet(
    packetType.connect,
    fields.headerFlags ?? 0,
    text(fields.protocolName ?? 'MQTT'),
    fields.level ?? 4,
    fields.connectFlags ?? connectFlagsOf(fields),
    uint16(fields.keepaliveS ?? 60),
    text(fields.clientId ?? ''),
    ...(will === undefined ? [] : [text(will.topic), text(will.payload ?? '')]),
    ...(username === undefined ? [] : [text(username)]),
    ...(password === undefined ? [] : [text(password)]),
    fields.excess ?? '',
  )
}

export interface PublishFields {
  topic: Text
  payload?: Text
  qos?: number
  retain?: boolean
  dup?: boolean
  /** Written only for a QoS above 0. */
  packetId?: number
}

export function publish({ topic, payload = '', qos = 0, retain = false, dup = false, packetId = 1 }: PublishFields): Buffer {
  const flags = (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0)
  return packet(packetType.publish, flags, text(topic), qos > 0 ? uint16(packetId) : '', payload)
}

export const puback = (packetId: number): Buffer => packet(packetType.puback, 0, uint16(packetId))
export const pubrec = (packetId: number): Buffer => packet(packetType.pubrec, 0, uint16(packetId))
export const pubrel = (packetId: number): Buffer => packet(packetType.pubrel, 2, uint16(packetId))
export const pubcomp = (packetId: number): Buffer => packet(packetType.pubcomp, 0, uint16(packetId))

/** A filter and the byte that asks for a QoS. */
export type Asked = readonly [filter: Text, qos: number]

export const subscribe = (packetId: number, ...asked: Asked[]): Buffer =>
  packet(packetType.subscribe, 2, uint16(packetId), ...asked.flatMap(([filter, qos]) => [text(filter), qos]))

export const unsubscribe = (packetId: number, ...filters: Text[]): Buffer =>
  packet(packetType.unsubscribe, 2, uint16(packetId), ...filters.map(text))

export const pingreq: Buffer = packet(packetType.pingreq, 0)
export const disconnect: Buffer = packet(packetType.disconnect, 0)
