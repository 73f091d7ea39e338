/** PROXY headers as real proxies write them, for tests. */
import { bytes, uint16 } from './packets.js'

const binarySignature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')

export const textHeader = (source: string): Buffer =>
  Buffer.from(source.includes(':') ? `PROXY TCP6 ${source} ::1 40000 1883\r\n` : `PROXY TCP4 ${source} 127.0.0.1 40000 1883\r\n`)

export interface BinaryFields {
  command?: number
  familyAndKind?: number
  source?: Buffer
  /** Extensions. */
  more?: Buffer
}

/** Version 2; by default from an IPv4 address over TCP. */
export function binaryHeader({ command = 0x21, familyAndKind = 0x11, source, more = Buffer.alloc(0) }: BinaryFields = {}): Buffer {
  const from = source ?? Buffer.of(203, 0, 113, 7)
  const body = bytes(from, Buffer.alloc(from.length, 1), uint16(40_000), uint16(1883), more)
  return bytes(binarySignature, command, familyAndKind, uint16(body.length), body)
}
