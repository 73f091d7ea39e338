/**
 * The devices that this node has claimed, each until the grace after its release is over. Both registries keep their own ones in it: the
 * truth about this node, which needs nobody else.
 */
import type { DeviceClaim } from './device-registry.js'
import { removeFrom } from './remove-from.js'

export interface OwnDevicesOptions {
  graceMs: number
  /** The grace of a released claim is over. `goneTs`: when it was released, ms since 1970. `isLast`: the user has no other device here. */
  gone(claim: DeviceClaim, gone: { goneTs: number; isLast: boolean }): void
}

interface Leaving {
  claim: DeviceClaim
  goneTs: number
  /** Monotonic. */
  dueMs: number
}

export class OwnDevices {
  readonly #options: OwnDevicesOptions
  readonly #users = new Map<string, DeviceClaim[]>()
  /** By user and device; the oldest first, which is due first. */
  readonly #leaving = new Map<string, Leaving>()
  #timer: NodeJS.Timeout | undefined
  #size = 0

  constructor(options: OwnDevicesOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#size
  }

  /** Whether the user has had no other device here. */
  claim(claim: DeviceClaim): boolean {
    if (this.#leaving.size > 0) this.#leaving.delete(keyOf(claim))
    const claims = this.#users.get(claim.user)
    if (claims === undefined) this.#users.set(claim.user, [claim])
    else {
      const at = claims.findIndex(({ device }) => device === claim.device)
      if (at === -1) claims.push(claim)
      else claims[at] = claim
      if (at !== -1) return false
    }
    this.#size++
    return claims === undefined
  }

  release({ user, device, epoch }: DeviceClaim): void {
    const claim = this.of(user, device)
    if (claim === undefined || claim.epoch !== epoch || this.#leaving.has(keyOf(claim))) return
    this.#leaving.set(keyOf(claim), { claim, goneTs: Date.now(), dueMs: performance.now() + this.#options.graceMs })
    this.#timer ??= setTimeout(() => this.#end(), this.#options.graceMs).unref()
  }

  of(user: string, device: string): DeviceClaim | undefined {
    return this.#users.get(user)?.find((claim) => claim.device === device)
  }

  devicesOf(user: string): string[] {
    return this.#users.get(user)?.map(({ device }) => device) ?? []
  }

  *all(): Generator<DeviceClaim> {
    for (const claims of this.#users.values()) yield* [...claims]
  }

  #end(): void {
    this.#timer = undefined
    const nowMs = performance.now()
    for (const [key, { claim, goneTs, dueMs }] of this.#leaving) {
      // Timers may fire a little early.
      if (dueMs > nowMs + 1) {
        this.#timer = setTimeout(() => this.#end(), dueMs - nowMs).unref()
        return
      }
      this.#leaving.delete(key)
      removeFrom(this.#users, claim.user, claim)
      this.#size--
      this.#options.gone(claim, { goneTs, isLast: !this.#users.has(claim.user) })
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#leaving.clear()
    this.#users.clear()
    this.#size = 0
  }
}

const keyOf = ({ user, device }: DeviceClaim): string => `${user}/${device}`
