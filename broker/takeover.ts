/**
 * One device, one live session in the whole cluster: the node on which a device connects tells the others, and they close what they have of
 * it with an earlier epoch. Of connects at the same time the one that took its epoch last stays, on all nodes alike. The word may be lost;
 * what an overtaken session then still writes to the session store changes nothing there.
 */
import type { Bus } from './bus.js'
import type { Hub } from './hub.js'
import type { Logger } from './logger.js'
import type { Session } from './session.js'
import { isUnnamed } from './topics.js'

const kind = 'takeover'

/** Given the sessions of this node once they have their epoch. */
export function createTakeover(bus: Bus, hub: () => Hub, logger: Logger): (session: Session) => void {
  bus.on(kind, (message, node) => {
    // No id has a slash; the name of a device without client id has none either.
    const [user, device, epochText] = message.toString().split('/')
    const epoch = Number(epochText)
    if (user === undefined || device === undefined || !Number.isSafeInteger(epoch))
      return logger.warn({ node }, 'a takeover of another node cannot be read')
    hub().overtake(user, device, epoch)
  })
  return ({ user, device, epoch }) => {
    if (!isUnnamed(device)) bus.publish(kind, Buffer.from(`${user}/${device}/${epoch}`))
  }
}
