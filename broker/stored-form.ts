/** The stored form of a message, as bytes: `{"seq":…,"ts":…,` and a tail that does not depend on the place in the log. */
import { ascii, digitsOf, writeBytes, writeDigits } from './ascii.js'

const beforeSeq = ascii('{"seq":')
const beforeTs = ascii(',"ts":')
const comma = 0x2c
const closingBrace = 0x7d

/** The tail may come in two parts. */
export function storedForm(seq: number, ts: number, head: Buffer | undefined, tail: Buffer): Buffer {
  const seqDigits = digitsOf(seq)
  const tsDigits = digitsOf(ts)
  const bytes = Buffer.allocUnsafe(beforeSeq.length + seqDigits + beforeTs.length + tsDigits + (head?.length ?? 0) + tail.length + 2)
  let at = writeBytes(bytes, 0, beforeSeq)
  at = writeDigits(bytes, at, seq, seqDigits)
  at = writeBytes(bytes, at, beforeTs)
  at = writeDigits(bytes, at, ts, tsDigits)
  bytes[at++] = comma
  if (head !== undefined) at = writeBytes(bytes, at, head)
  at = writeBytes(bytes, at, tail)
  bytes[at] = closingBrace
  return bytes
}

/** The tail of a stored form: all from `"from":` to before the closing brace. */
export const tailOf = (stored: Buffer): Buffer => stored.subarray(stored.indexOf('"from":'), -1)
