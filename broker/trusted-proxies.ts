/**
 * The proxies whose word about a client's address is believed: those of PARLEY_TRUSTED_PROXIES. The word of anybody else
 * is worth nothing, since everybody can send a header.
 */
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'

export const trustedProxiesMax = 100
/** More than the proxies that stand behind each other anywhere. */
const hopsMax = 20

export class TrustedProxies {
  readonly #list = new BlockList()
  /** False where no proxy is listed: nothing needs to be asked. */
  readonly #isAny: boolean

  /** The ranges must be valid, as `faultOfRange` says. */
  constructor(ranges: readonly string[]) {
    this.#isAny = ranges.length > 0
    for (const range of ranges) {
      const { address, prefix, family } = partsOf(range)
      this.#list.addSubnet(address, prefix, family)
    }
  }

  has(address: string): boolean {
    if (!this.#isAny) return false
    const plain = plainAddress(address)
    const version = isIP(plain)
    return version !== 0 && this.#list.check(plain, version === 4 ? 'ipv4' : 'ipv6')
  }

  /**
   * The address of an HTTP client: the peer's, and behind a listed proxy the last one in X-Forwarded-For that is not a listed
   * proxy. What stands before that one was written by somebody unknown and is not read; what is no address ends the reading.
   */
  clientOf(peer: string, forwardedFor: string | undefined): string {
    let client = peer
    const hops = (forwardedFor ?? '').split(',').slice(-hopsMax)
    for (let at = hops.length - 1; at >= 0 && this.has(client); at--) {
      const hop = plainAddress((hops[at] as string).trim())
      if (isIP(hop) === 0) break
      client = hop
    }
    return client
  }

  /** The same, of a request as Node has it. */
  clientOfRequest({ socket, headers }: IncomingMessage): string {
    const forwardedFor = headers['x-forwarded-for']
    return this.clientOf(socket.remoteAddress ?? '', Array.isArray(forwardedFor) ? forwardedFor.join(',') : forwardedFor)
  }
}

/** A phrase that says what is wrong with a range, if anything. */
export function faultOfRange(range: string): string | undefined {
  const { address, prefix, family } = partsOf(range)
  if (isIP(address) === 0) return `"${range}" is not an IP address or a range of them such as 10.0.0.0/8`
  const bits = family === 'ipv4' ? 32 : 128
  return Number.isInteger(prefix) && prefix <= bits ? undefined : `"${range}" must end with a prefix from /0 to /${bits}`
}

function partsOf(range: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } {
  const [address = '', prefix, ...rest] = range.split('/')
  const family = isIP(address) === 4 ? 'ipv4' : 'ipv6'
  const whole = family === 'ipv4' ? 32 : 128
  const isNumber = rest.length === 0 && /^\d{1,3}$/.test(prefix ?? '')
  return { address, family, prefix: prefix === undefined ? whole : isNumber ? Number(prefix) : Number.NaN }
}

/** An IPv4 peer of a socket that listens on both has an address such as ::ffff:10.0.0.1. */
export function plainAddress(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  return mapped?.[1] ?? address
}
