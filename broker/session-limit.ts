/**
 * How many sessions one user may have: so many connected at once, and so many stored. Who comes with a new device when all are taken loses the
 * stored session that was seen least recently; when all are connected he is refused. Asked by admission before a session is opened.
 */
import type { Forget } from './forget.js'
import type { Hub } from './hub.js'
import type { SessionStore } from './store/store.js'

export interface SessionLimitOptions {
  max: number
  hub: Pick<Hub, 'sessionsOf'>
  sessions: Pick<SessionStore, 'list'>
  forget: Forget
}

/** False: the user has as many as he may have. */
export type MakeRoom = (user: string, device: string, wanted: { persistent: boolean }) => Promise<boolean> | boolean

export function createSessionLimit({ max, hub, sessions, forget }: SessionLimitOptions): MakeRoom {
  const makeRoomInStore = async (user: string, device: string, live: readonly { device: string }[]): Promise<boolean> => {
    const stored = await sessions.list(user)
    if (stored.some((record) => record.device === device)) return true
    const surplus = stored.length + 1 - max
    if (surplus <= 0) return true
    // One that is connected to another node was seen lately, too.
    const online = new Set(live.map((session) => session.device))
    const oldest = stored.filter((record) => !online.has(record.device)).sort((a, b) => a.seenTs - b.seenTs)
    if (oldest.length < surplus) return false
    for (const record of oldest.slice(0, surplus)) await forget(user, record.device)
    return true
  }
  return (user, device, { persistent }) => {
    const live = hub.sessionsOf(user)
    // In the place of its older connection.
    if (!live.some((session) => session.device === device) && live.length >= max) return false
    return persistent ? makeRoomInStore(user, device, live) : true
  }
}
