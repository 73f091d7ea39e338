/**
 * Ends all sessions of a user, stored and live, and forgets what is kept for them. Resolves with how many there were; live ones of other nodes
 * of which nothing is stored end too, and are not counted.
 */
import type { Forgetting } from './forget.js'
import type { Hub } from './hub.js'
import type { Store } from './store/store.js'

export interface SessionsWorld {
  store: Store
  hub: Hub
  forget: Forgetting
}

export async function endSessions({ store, hub, forget }: SessionsWorld, user: string): Promise<number> {
  const devices = new Set((await store.sessions.list(user)).map(({ device }) => device))
  for (const { device } of hub.sessionsOf(user)) devices.add(device)
  for (const device of devices) await forget.device(user, device)
  await forget.user(user)
  return devices.size
}
