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

export interface Forgetting {
  device: Forget
  /** All devices that are connected now, also those of which nothing is stored and only their node knows. */
  user(user: string): Promise<void>
  /** The same, of those that are connected to this node; nobody else is told. */
  userHere(user: string): Promise<void>
}

export function createForgetting({ hub, adapter, bus, logger }: { hub: Hub; adapter: AedesAdapter; bus: Bus; logger: Logger }): Forgetting {
  const forgetHere: Forget = async (user, device) => {
    await hub.forget(user, device)
    await adapter.forget(user, device)
  }
  const userHere = async (user: string): Promise<void> => {
    for (const { device } of [...hub.sessionsOf(user)]) await forgetHere(user, device)
  }
  bus.on(kind, (message, node) => {
    // No id has a slash; the name of a device without client id has none either, and none is empty.
    const [user, device] = message.toString().split('/')
    if (user === undefined || device === undefined) return
    const forgotten = device === '' ? userHere(user) : forgetHere(user, device)
    forgotten.catch((error) => logger.warn({ err: error, node, user, device }, 'a device could not be forgotten'))
  })
  return {
    device: async (user, device) => {
      bus.publish(kind, Buffer.from(`${user}/${device}`))
      await forgetHere(user, device)
    },
    user: async (user) => {
      bus.publish(kind, Buffer.from(`${user}/`))
      await userHere(user)
    },
    userHere,
  }
}
