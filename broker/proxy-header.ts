/**
 * The PROXY protocol, versions 1 (text) and 2 (binary): what a proxy sends ahead of a connection to say whose it is. Reads a
 * header from the bytes that are there so far, takes no byte more than it, and sees at the first wrong byte that it is none.
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
 */
import { isIPv4, isIPv6 } from 'node:net'

export interface ProxyHeader {
  /** How long the header is; what follows belongs to the client. */
  readonly bytes: number
  /** Of the client; undefined when the proxy speaks for itself, as in its health checks. */
  readonly address: string | undefined
}

/** It is no header; the message is a phrase that says why. */
export class ProxyHeaderError extends Error {
  override name = 'ProxyHeaderError'
}

/** As it has in version 2; the longest of version 1 is far below. */
export const proxyHeaderBytesMax = 4096
const textBytesMax = 107
const textStart = Buffer.from('PROXY ')
const binaryStart = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const binaryFixedBytes = 16

/** Undefined when more bytes are needed. Throws ProxyHeaderError. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  if (isStart(bytes, binaryStart)) return readBinary(bytes)
  if (isStart(bytes, textStart)) return readText(bytes)
  throw new ProxyHeaderError('it does not begin with a PROXY header')
}

/** Whether the bytes begin so, as far as they reach. */
function isStart(bytes: Buffer, start: Buffer): boolean {
  const shared = Math.min(bytes.length, start.length)
  return bytes.compare(start, 0, shared, 0, shared) === 0
}

function readText(bytes: Buffer): ProxyHeader | undefined {
  const end = bytes.subarray(0, textBytesMax).indexOf('\r\n')
  if (end === -1) {
    if (bytes.length >= textBytesMax) throw new ProxyHeaderError(`its line does not end within ${textBytesMax} bytes`)
    return undefined
  }
  const line = bytes.toString('latin1', 0, end)
  const length = end + 2
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return { bytes: length, address: undefined }
  const [, family, source = '', destination = '', ...ports] =
    /^PROXY TCP([46]) ([\da-fA-F.:]+) ([\da-fA-F.:]+) (\d{1,5}) (\d{1,5})$/.exec(line) ?? []
  const isAddress = family === '4' ? isIPv4 : isIPv6
  if (family === undefined || !isAddress(source) || !isAddress(destination) || ports.some((port) => Number(port) > 65_535)) {
    throw new ProxyHeaderError('its line is not of version 1 of the PROXY protocol')
  }
  return { bytes: length, address: source }
}

function readBinary(bytes: Buffer): ProxyHeader | undefined {
  const [versionAndCommand, familyAndKind] = [bytes[12], bytes[13]]
  if (versionAndCommand === undefined) return undefined
  if (versionAndCommand !== 0x20 && versionAndCommand !== 0x21) {
    throw new ProxyHeaderError(`its version and command are 0x${versionAndCommand.toString(16)}, not 0x20 or 0x21`)
  }
  if (familyAndKind === undefined || bytes.length < binaryFixedBytes) return undefined
  const length = binaryFixedBytes + bytes.readUInt16BE(14)
  if (length > proxyHeaderBytesMax) throw new ProxyHeaderError(`it has ${length} bytes, at most ${proxyHeaderBytesMax} are read`)
  if (bytes.length < length) return undefined
  const isLocal = versionAndCommand === 0x20
  return { bytes: length, address: isLocal ? undefined : addressOf(familyAndKind, bytes.subarray(binaryFixedBytes, length)) }
}

/** The extensions behind the addresses are not needed. */
function addressOf(familyAndKind: number, body: Buffer): string | undefined {
  const isStream = (familyAndKind & 0x0f) === 1
  const family = familyAndKind >> 4
  if (!isStream || (family !== 1 && family !== 2)) return undefined
  const addressBytes = family === 1 ? 4 : 16
  if (body.length < 2 * addressBytes + 4) throw new ProxyHeaderError(`its addresses have ${body.length} bytes, which is too few`)
  if (family === 1) return [...body.subarray(0, 4)].join('.')
  const groups = Array.from({ length: 8 }, (_, at) => body.readUInt16BE(2 * at).toString(16))
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}
