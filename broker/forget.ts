/**
 * Forgets a device of a user: ends its session on whatever node it is, and removes its cursors and what application topics hold for it.
 * Resolves when that is done on this node; the others hear of it by the bus.
 */
import type { AedesAdapter } from './aedes-adapter.js'
import type { Bus } from './bus.js'
import type { Hub } from './hub.js'
import type { Logger } from './logger.js'

const kind = 'forget'

export type Forget = (user: string, device: string) => Promise<void>

export function createForget({ hub, adapter, bus, logger }: { hub: Hub; adapter: AedesAdapter; bus: Bus; logger: Logger }): Forget {
  const forgetHere: Forget = async (user, device) => {
    await hub.forget(user, device)
    await adapter.forget(user, device)
  }
  bus.on(kind, (message, node) => {
    // No id has a slash; the name of a device without client id has none either.
    const [user, device] = message.toString().split('/')
    if (user === undefined || device === undefined) return
    forgetHere(user, device).catch((error) => logger.warn({ err: error, node, user, device }, 'a device could not be forgotten'))
  })
  return async (user, device) => {
    bus.publish(kind, Buffer.from(`${user}/${device}`))
    await forgetHere(user, device)
  }
}
