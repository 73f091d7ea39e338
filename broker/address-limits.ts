/**
 * What one client address may do: connections that are open and that are opened, HTTP requests, logins that fail. An IPv6 address counts
 * by its /64, which is what one customer has. Memory is bounded by the open connections and by `RateBuckets`.
 */
import { isIPv6 } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Config } from './config.js'
import { bucketsOf, type Clock, type RateBuckets } from './rate-buckets.js'
import { plainAddress } from './trusted-proxies.js'

type Limits = Pick<Config, 'ipConnectionsMax' | 'ipConnectRateLimit' | 'ipRateLimit' | 'ipFailedLoginRateLimit' | 'failedLoginRateLimit'>

/** Longer than any user id: the rest of a longer name tells nothing apart that could log in. */
const accountLengthMax = 65

const networkKey = Symbol('network')
type CountedSocket = Duplex & { [networkKey]?: string }

export class AddressLimits {
  readonly #connectionsMax: number
  /** Open connections by network. */
  readonly #open = new Map<string, number>()
  readonly #connects: RateBuckets | undefined
  readonly #requests: RateBuckets | undefined
  readonly #failures: RateBuckets | undefined
  readonly #failuresOfAccount: RateBuckets | undefined
  /** One listener for all sockets: there are 100,000s of them. */
  readonly #closed: (this: Duplex) => void

  constructor(limits: Limits, nowMs?: Clock) {
    const left = (network: string): void => this.#left(network)
    this.#closed = function (this: CountedSocket) {
      left(this[networkKey] ?? '')
    }
    this.#connectionsMax = limits.ipConnectionsMax ?? Number.POSITIVE_INFINITY
    this.#connects = bucketsOf(limits.ipConnectRateLimit, nowMs)
    this.#requests = bucketsOf(limits.ipRateLimit, nowMs)
    this.#failures = bucketsOf(limits.ipFailedLoginRateLimit, nowMs)
    this.#failuresOfAccount = bucketsOf(limits.failedLoginRateLimit, nowMs)
  }

  /** Counts a new connection until its socket closes; once for a socket. False: it is one too many. */
  admits(socket: Duplex, address: string): boolean {
    const network = networkOf(address)
    const open = this.#open.get(network) ?? 0
    if (open >= this.#connectionsMax || (this.#connects?.take(network) ?? 0) > 0) return false
    this.#open.set(network, open + 1)
    ;(socket as CountedSocket)[networkKey] = network
    socket.on('close', this.#closed)
    return true
  }

  #left(network: string): void {
    const left = (this.#open.get(network) ?? 1) - 1
    if (left > 0) this.#open.set(network, left)
    else this.#open.delete(network)
  }

  /** Takes one HTTP request: 0, or the ms until it may be made. */
  requestWaitMs(address: string): number {
    return this.#requests?.take(networkOf(address)) ?? 0
  }

  /** How long nobody may log in from there, or not with this account; '' where the account is not known. */
  loginWaitMs(address: string, account: string): number {
    const network = networkOf(address)
    return Math.max(this.#failures?.waitMs(network) ?? 0, this.#failuresOfAccount?.waitMs(keyOf(network, account)) ?? 0)
  }

  loginFailed(address: string, account: string): void {
    const network = networkOf(address)
    this.#failures?.take(network)
    if (account !== '') this.#failuresOfAccount?.take(keyOf(network, account))
  }
}

const keyOf = (network: string, account: string): string => `${network} ${account.slice(0, accountLengthMax)}`

/** An IPv4 address as it is, of an IPv6 address the first 64 bits. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address
  const plain = plainAddress(address).split('%')[0] as string
  if (!isIPv6(plain)) return plain
  const [before = '', after] = plain.split('::')
  const first = before === '' ? [] : before.split(':')
  const last = after === undefined || after === '' ? [] : after.split(':')
  // An IPv4 address at the end stands for two groups.
  const known = first.length + last.length + (last.at(-1)?.includes('.') ? 1 : 0)
  const groups = after === undefined ? first : [...first, ...Array<string>(8 - known).fill('0'), ...last]
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
