/** What a watcher gets to see of a user: whether anything, and what. */

import { isOnline, type Standing } from '../../broker/device-registry.js'
import type { Refusal } from '../../broker/errors.js'
import type { ConversationId } from '../../broker/topics.js'
import { type SharingWorld, sharedConversation } from './sharing.js'
import type { Sightings } from './sightings.js'

export interface PresenceWorld extends SharingWorld {
  readonly sightings: Pick<Sightings, 'of'>
  isBusy(user: string): Promise<boolean>
  /** Why `watcher` may not write to `user`; undefined: he may. */
  judge(watcher: string, user: string): Promise<Refusal | undefined>
}

export interface PresenceValue {
  status: 'online' | 'offline'
  busy?: true
  /** ms since 1970; left out while he is online, and where it is not known. */
  last_seen?: number
}

/** For whom the user has blocked. */
export const hiddenValue: PresenceValue = { status: 'offline' }

export type Judgement = { via: ConversationId; isHidden: boolean }

/** undefined: the watcher has no business with this user. */
export async function judgementOf(
  world: PresenceWorld,
  watcher: string,
  user: string,
  known?: ConversationId,
): Promise<Judgement | undefined> {
  const [via, refusal] = await Promise.all([
    sharedConversation(world, watcher, user, known),
    watcher === user ? undefined : world.judge(watcher, user),
  ])
  if (via === undefined || refusal?.code === 'not_found') return undefined
  return { via, isHidden: refusal?.code === 'blocked' }
}

export async function visibilityOf(world: PresenceWorld, watcher: string, user: string): Promise<'visible' | 'hidden' | 'none'> {
  const judgement = await judgementOf(world, watcher, user)
  if (judgement === undefined) return 'none'
  return judgement.isHidden ? 'hidden' : 'visible'
}

export async function presenceOf(world: PresenceWorld, user: string, standing: Standing): Promise<PresenceValue> {
  if (isOnline(standing)) return (await world.isBusy(user)) ? { status: 'online', busy: true } : { status: 'online' }
  // In a cluster it is in Redis for a while, and in the store for good.
  const lastSeen = standing.goneTs ?? (await world.sightings.of(user)) ?? 0
  return lastSeen > 0 ? { status: 'offline', last_seen: lastSeen } : { status: 'offline' }
}
