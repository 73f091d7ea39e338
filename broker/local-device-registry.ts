/** The registry of a server without other nodes: it knows all there is. */

import type { DeviceClaim, DeviceRegistry, DeviceWatcher, Standing } from './device-registry.js'
import { OwnDevices } from './own-devices.js'

export class LocalDeviceRegistry implements DeviceRegistry {
  readonly nodes = 1
  readonly unwritten = 0
  readonly #own: OwnDevices
  readonly #watchers: DeviceWatcher[] = []

  constructor({ graceMs }: { graceMs: number }) {
    this.#own = new OwnDevices({
      graceMs,
      gone: ({ user }, { isLast }) => {
        if (isLast) this.#changed(user)
      },
    })
  }

  claim(claim: DeviceClaim): void {
    if (this.#own.claim(claim)) this.#changed(claim.user)
  }

  release(claim: DeviceClaim): void {
    this.#own.release(claim)
  }

  async lookUp(users: readonly string[]): Promise<Standing[]> {
    return users.map((user) => ({ here: this.#own.devicesOf(user), elsewhere: [] }))
  }

  watch(watcher: DeviceWatcher): void {
    this.#watchers.push(watcher)
  }

  #changed(user: string): void {
    for (const watcher of this.#watchers) watcher([user])
  }

  close(): void {
    this.#own.close()
  }
}
