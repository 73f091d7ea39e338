/**
 * What a client may send, byte by byte, as MQTT 3.1.1 says: everything else is a protocol violation and closes the
 * connection before Aedes sees it. Called by the connection for each complete packet.
 */
import { isUtf8 } from 'node:buffer'

/** The client broke the protocol; the connection is closed. The message says how, with the spec's tag. */
export class ProtocolViolation extends Error {
  override name = 'ProtocolViolation'
  /** Code of the CONNACK to send first, if the spec names one. */
  readonly connackCode: number | undefined

  constructor(message: string, connackCode?: number) {
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(message)
    Error.stackTraceLimit = limit
    this.connackCode = connackCode
  }
}

export const packetType = {
  connect: 1,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  unsubscribe: 10,
  pingreq: 12,
  disconnect: 14,
} as const

const disallowed = /[\p{Cc}\p{Noncharacter_Code_Point}]/u

/** Reads a UTF-8 string [MQTT-1.5.3-1, 1.5.3-2]: well-formed, without U+0000, control and non-characters. */
export function readString(bytes: Buffer, start: number, end: number, what: string): string {
  let ascii = true
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number
    if (byte < 0x20 || byte > 0x7e) {
      ascii = false
      break
    }
  }
  if (ascii) return bytes.toString('latin1', start, end)
  const part = bytes.subarray(start, end)
  if (!isUtf8(part)) throw new ProtocolViolation(`${what} is not UTF-8 [MQTT-1.5.3-1]`)
  const text = bytes.toString('utf8', start, end)
  if (disallowed.test(text)) throw new ProtocolViolation(`${what} has a control or non-character [MQTT-1.5.3-2]`)
  return text
}

/** Walks over the fields of one packet; every read is checked against its end. */
class Reader {
  at: number
  constructor(
    readonly bytes: Buffer,
    start: number,
    readonly end: number,
  ) {
    this.at = start
  }

  uint8(what: string): number {
    if (this.at + 1 > this.end) throw new ProtocolViolation(`${what} is missing`)
    return this.bytes[this.at++] as number
  }

  uint16(what: string): number {
    if (this.at + 2 > this.end) throw new ProtocolViolation(`${what} is missing`)
    this.at += 2
    return this.bytes.readUInt16BE(this.at - 2)
  }

  binary(what: string): Buffer {
    const length = this.uint16(what)
    if (this.at + length > this.end) throw new ProtocolViolation(`${what} is longer than its packet`)
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  string(what: string): string {
    const part = this.binary(what)
    return readString(this.bytes, this.at - part.length, this.at, what)
  }
}

export interface Connect {
  level: number
  clean: boolean
  keepaliveSeconds: number
  clientId: string
  willTopic: string | undefined
  username: string | undefined
}

/** A CONNECT packet, whole and valid [MQTT-3.1]; the password apart, so that nobody keeps it. */
export function readConnect(bytes: Buffer, start: number, end: number): { connect: Connect; password: string | undefined } {
  const reader = new Reader(bytes, start, end)
  const name = reader.string('protocol name')
  const level = reader.uint8('protocol level')
  if (name !== 'MQTT' && name !== 'MQIsdp') throw new ProtocolViolation('the protocol name is not MQTT [MQTT-3.1.2-1]')
  if ((name === 'MQTT' && level !== 4) || (name === 'MQIsdp' && level !== 3)) {
    throw new ProtocolViolation(`protocol level ${level}: only MQTT 3.1.1 is spoken here [MQTT-3.1.2-2]`, 1)
  }
  const flags = reader.uint8('connect flags')
  const keepaliveSeconds = reader.uint16('keep alive')
  const hasWill = (flags & 0x04) !== 0
  const willQos = (flags >> 3) & 3
  const hasPassword = (flags & 0x40) !== 0
  const hasUsername = (flags & 0x80) !== 0
  if ((flags & 1) !== 0) throw new ProtocolViolation('the reserved connect flag is set [MQTT-3.1.2-3]')
  if (!hasWill && (flags & 0x38) !== 0) throw new ProtocolViolation('will QoS or retain without a will [MQTT-3.1.2-11]')
  if (willQos === 3) throw new ProtocolViolation('will QoS 3 [MQTT-3.1.2-14]')
  if (hasPassword && !hasUsername) throw new ProtocolViolation('a password without user name [MQTT-3.1.2-22]')
  const clientId = reader.string('client id')
  let willTopic: string | undefined
  if (hasWill) {
    willTopic = reader.string('will topic')
    assertTopicName(willTopic)
    reader.binary('will message')
  }
  const username = hasUsername ? reader.string('user name') : undefined
  const password = hasPassword ? reader.binary('password').toString() : undefined
  if (reader.at !== end) throw new ProtocolViolation(`${end - reader.at} bytes behind the last field of CONNECT`)
  return { connect: { level, clean: (flags & 0x02) !== 0, keepaliveSeconds, clientId, willTopic, username }, password }
}

/** The topic of a PUBLISH [MQTT-3.3.2-2]: not empty, no wildcards. */
export function assertTopicName(topic: string): void {
  if (topic.length === 0) throw new ProtocolViolation('an empty topic [MQTT-4.7.3-1]')
  if (topic.includes('#') || topic.includes('+')) throw new ProtocolViolation('a wildcard in a topic [MQTT-3.3.2-2]')
}

function assertFilter(filter: string): void {
  if (filter.length === 0) throw new ProtocolViolation('an empty topic filter [MQTT-4.7.3-1]')
  if (!filter.includes('#') && !filter.includes('+')) return
  const levels = filter.split('/')
  levels.forEach((level, index) => {
    if (level === '+' || (level === '#' && index === levels.length - 1)) return
    if (level.includes('#') || level.includes('+')) throw new ProtocolViolation('a misplaced wildcard in a topic filter [MQTT-4.7.1-2]')
  })
}

export interface FilterRequest {
  filter: string
  qos: number
}

function readPacketId(reader: Reader): number {
  const packetId = reader.uint16('packet id')
  if (packetId === 0) throw new ProtocolViolation('packet id 0 [MQTT-2.3.1-1]')
  return packetId
}

export function readSubscribe(bytes: Buffer, start: number, end: number): { packetId: number; filters: FilterRequest[] } {
  const reader = new Reader(bytes, start, end)
  const packetId = readPacketId(reader)
  const filters: FilterRequest[] = []
  while (reader.at < end) {
    const filter = reader.string('topic filter')
    assertFilter(filter)
    const qos = reader.uint8('requested QoS')
    if (qos > 2) throw new ProtocolViolation('a requested QoS over 2 [MQTT-3.8.3-4]')
    filters.push({ filter, qos })
  }
  if (filters.length === 0) throw new ProtocolViolation('SUBSCRIBE without a topic filter [MQTT-3.8.3-3]')
  return { packetId, filters }
}

export function readUnsubscribe(bytes: Buffer, start: number, end: number): { packetId: number; filters: string[] } {
  const reader = new Reader(bytes, start, end)
  const packetId = readPacketId(reader)
  const filters: string[] = []
  while (reader.at < end) {
    const filter = reader.string('topic filter')
    assertFilter(filter)
    filters.push(filter)
  }
  if (filters.length === 0) throw new ProtocolViolation('UNSUBSCRIBE without a topic filter [MQTT-3.10.3-2]')
  return { packetId, filters }
}

/** The fixed header of a client's packet: its type may come from a client, its flags are as section 2.2.2 says. */
export function assertHeader(first: number, length: number): void {
  const type = first >> 4
  const flags = first & 15
  switch (type) {
    case packetType.publish:
      if ((flags & 6) === 6) throw new ProtocolViolation('PUBLISH with QoS 3 [MQTT-3.3.1-4]')
      if ((flags & 6) === 0 && (flags & 8) !== 0) throw new ProtocolViolation('DUP on a PUBLISH of QoS 0 [MQTT-3.3.1-2]')
      return
    case packetType.connect:
      if (flags !== 0) break
      return
    case packetType.puback:
    case packetType.pubrec:
    case packetType.pubcomp:
      if (flags !== 0 || length !== 2) break
      return
    case packetType.pubrel:
      if (flags !== 2 || length !== 2) break
      return
    case packetType.subscribe:
    case packetType.unsubscribe:
      if (flags !== 2) break
      return
    case packetType.pingreq:
    case packetType.disconnect:
      if (flags !== 0 || length !== 0) break
      return
    default:
      throw new ProtocolViolation(`packet type ${type} does not come from a client [MQTT-2.2.1]`)
  }
  throw new ProtocolViolation(`flags ${flags} or length ${length} are wrong for packet type ${type} [MQTT-2.2.2-2]`)
}

/** The packet id of PUBACK, PUBREC, PUBREL, PUBCOMP. */
export function readAckId(bytes: Buffer, start: number): number {
  const packetId = bytes.readUInt16BE(start)
  if (packetId === 0) throw new ProtocolViolation('packet id 0 [MQTT-2.3.1-1]')
  return packetId
}
