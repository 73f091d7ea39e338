/**
 * Recognises in its bytes the commonest message, as most libraries write it: an id, the type `text` or none, a body, in this order, and
 * nothing in the strings that JSON escapes. Such a message is valid and is stored as it came, so it need not be decoded and encoded
 * again; what is not recognised may be valid all the same.
 */
import { isUtf8 } from 'node:buffer'
import { ascii } from './ascii.js'

export interface PlainMessage {
  id: string
  /** The fields of the stored form from `"id":…` on. Lies in the payload where it can. */
  json: Buffer
}

const openId = ascii('{"id":"')
const spacedId = ascii('{"id": "')
const typeText = ascii('"type":"text",')
const spacedTypeText = ascii('"type": "text", ')
const body = ascii('"body":"')
const spacedBody = ascii('"body": "')
const idMax = 64
const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const space = 0x20
const closingBrace = 0x7d

function startsWith(bytes: Buffer, at: number, literal: Buffer): boolean {
  for (let i = 0; i < literal.length; i++) if (bytes[at + i] !== literal[i]) return false
  return true
}

/** undefined: not one of these. */
export function plainMessageOf(payload: Buffer): PlainMessage | undefined {
  const isDense = startsWith(payload, 0, openId)
  if (!isDense && !startsWith(payload, 0, spacedId)) return undefined
  const idStart = isDense ? openId.length : spacedId.length
  const idEnd = plainEnd(payload, idStart)
  if (idEnd === idStart || idEnd > idStart + idMax || payload[idEnd] !== quote || payload[idEnd + 1] !== comma) return undefined
  let at = idEnd + 2
  if (!isDense && payload[at++] !== space) return undefined
  const type = isDense ? typeText : spacedTypeText
  const hasType = startsWith(payload, at, type)
  if (hasType) at += type.length
  const open = isDense ? body : spacedBody
  if (!startsWith(payload, at, open)) return undefined
  const bodyStart = at + open.length
  const bodyEnd = textEnd(payload, bodyStart)
  if (payload[bodyEnd] !== quote || payload[bodyEnd + 1] !== closingBrace || bodyEnd + 2 !== payload.length) return undefined
  const id = payload.toString('latin1', idStart, idEnd)
  if (isDense && hasType) return { id, json: payload.subarray(1, bodyEnd + 1) }
  const fields = ascii(`"id":"${id}","type":"text","body":"`)
  return { id, json: Buffer.concat([fields, payload.subarray(bodyStart, bodyEnd + 1)]) }
}

/** The first byte from `at` on that is not printable ASCII, or is a quote or backslash. */
function plainEnd(bytes: Buffer, from: number): number {
  let at = from
  for (; at < bytes.length; at++) {
    const byte = bytes[at] as number
    if (byte < 0x20 || byte > 0x7e || byte === quote || byte === backslash) break
  }
  return at
}

/** The same for text in any script. -1: it is not UTF-8. */
function textEnd(bytes: Buffer, from: number): number {
  let at = from
  let seen = 0
  for (; at < bytes.length; at++) {
    const byte = bytes[at] as number
    if (byte < 0x20 || byte === quote || byte === backslash) break
    seen |= byte
  }
  return seen < 0x80 || isUtf8(bytes.subarray(from, at)) ? at : -1
}
