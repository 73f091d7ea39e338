/** How a packet of an open topic is kept in the key-value store: length of the header u32, header as JSON, payload. */
import { keptCopy } from '../kept-copy.js'

/** What Aedes gives and wants back; see aedes-packet. */
export interface OpenPacket {
  cmd: string
  topic?: string
  payload?: Buffer | string
  qos?: number
  retain?: boolean
  dup?: boolean
  messageId?: number | undefined
  brokerId?: string
  brokerCounter?: number
}

interface Header extends Omit<OpenPacket, 'payload'> {
  /** The session whose queue holds it. */
  client?: string
}

/** The same packet with a payload that keeps nothing but itself in memory. */
export function withKeptPayload<P extends OpenPacket>(packet: P): P {
  return { ...packet, payload: keptCopy(bytesOf(packet)) }
}

const bytesOf = ({ payload }: OpenPacket): Buffer => (typeof payload === 'string' ? Buffer.from(payload) : (payload ?? Buffer.alloc(0)))

/** A copy with the fields that count, and the same payload; `messageId` is given anew to each receiver. */
export function copyPacket(packet: OpenPacket): OpenPacket {
  const { cmd, topic, qos, retain, dup, brokerId, brokerCounter } = packet
  return {
    cmd: cmd ?? 'publish',
    payload: bytesOf(packet),
    qos: qos ?? 0,
    retain: retain ?? false,
    dup: dup ?? false,
    messageId: undefined,
    ...(topic !== undefined && { topic }),
    ...(brokerId !== undefined && { brokerId }),
    ...(brokerCounter !== undefined && { brokerCounter }),
  }
}

export const packetBytes = ({ topic = '', payload = '' }: OpenPacket): number => topic.length + payload.length

export function encodePacket(packet: OpenPacket, client?: string): Buffer {
  const { payload, messageId } = packet
  const header: Header = { ...copyPacket(packet), ...(messageId !== undefined && { messageId }), ...(client !== undefined && { client }) }
  const text = Buffer.from(JSON.stringify({ ...header, payload: undefined }))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length)
  return Buffer.concat([length, text, Buffer.from(payload ?? '')])
}

export function decodePacket(value: Buffer): { packet: OpenPacket; client: string } {
  const end = 4 + value.readUInt32BE(0)
  const { client = '', ...header } = JSON.parse(value.toString('utf8', 4, end)) as Header
  return { packet: { ...header, payload: value.subarray(end) }, client }
}
