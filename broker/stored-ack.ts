/** The commonest answer, built as bytes: the ack of a message that is stored. topics.md, "Acks". */
import { ascii, digitsOf, isPlain, writeAscii, writeBytes, writeDigits } from './ascii.js'
import { encodePublishOnce, publishHead } from './mqtt/encode.js'
import { type Address, ackTopic } from './topics.js'

export interface StoredAck {
  id: string
  conv: Address
  seq: number
  ts: number
  dup: boolean
}

const beforeId = ascii('{"id":"')
const beforeConv = ascii('","conv":"')
const beforeSeq = ascii('","seq":')
const beforeTs = ascii(',"ts":')
const closing = ascii('}')
const closingDup = ascii(',"dup":true}')
const constantBytes = beforeId.length + beforeConv.length + beforeSeq.length + beforeTs.length

/** The PUBLISH of an ack; QoS 0 when `packetId` is 0. */
export function encodeStoredAck(user: string, ack: StoredAck, packetId: number): Buffer {
  const { id, conv, seq, ts, dup } = ack
  const topic = ackTopic(user)
  if (!isPlain(id)) return encodePublishOnce(topic, JSON.stringify(dup ? ack : { id, conv, seq, ts }), packetId)
  const seqDigits = digitsOf(seq)
  const tsDigits = digitsOf(ts)
  const end = dup ? closingDup : closing
  const payloadBytes = constantBytes + id.length + conv.length + seqDigits + tsDigits + end.length
  const { bytes, at: start } = publishHead(topic, packetId, payloadBytes)
  let at = writeBytes(bytes, start, beforeId)
  at = writeAscii(bytes, at, id)
  at = writeBytes(bytes, at, beforeConv)
  at = writeAscii(bytes, at, conv)
  at = writeBytes(bytes, at, beforeSeq)
  at = writeDigits(bytes, at, seq, seqDigits)
  at = writeBytes(bytes, at, beforeTs)
  at = writeDigits(bytes, at, ts, tsDigits)
  writeBytes(bytes, at, end)
  return bytes
}
