/**
 * JSON and packets written byte by byte. A string that is built only to be encoded costs several times what its bytes cost, and
 * every message needs three: its stored form, its PUBLISH and its ack.
 */

/** The bytes of an ASCII text that is used again and again. */
export const ascii = (text: string): Buffer => Buffer.from(text, 'latin1')

/** Writes a text of which is known that it is ASCII; returns the offset behind it. */
export function writeAscii(out: Buffer, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i)
  return at + text.length
}

/** Decimal digits of a whole number from 0. */
export function digitsOf(number: number): number {
  let digits = 1
  for (let rest = number; rest >= 10; rest = Math.floor(rest / 10)) digits++
  return digits
}

/** Writes a whole number from 0 that has so many digits; returns the offset behind it. */
export function writeDigits(out: Buffer, at: number, number: number, digits: number): number {
  let rest = number
  for (let i = at + digits - 1; i >= at; i--) {
    const tens = Math.floor(rest / 10)
    // In this order: 48 more than the largest seq is no whole number that can be told from its neighbours.
    out[i] = 48 + (rest - tens * 10)
    rest = tens
  }
  return at + digits
}

export function writeBytes(out: Buffer, at: number, bytes: Buffer): number {
  out.set(bytes, at)
  return at + bytes.length
}

/** True if the text stands in JSON as it is, and each of its characters is a byte. */
export function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) return false
  }
  return true
}
