/**
 * Friends: one asks (`add`), the other accepts (`accept`, or `add` from his side), either ends it (`remove`). What changes is told to
 * the sessions of both.
 */
import { Type } from 'typebox'
import { refuse } from '../../broker/errors.js'
import { isKnown } from '../../broker/known-user.js'
import { idSchema } from '../../broker/payloads.js'
import { type Method, method } from '../../broker/plugin.js'
import { assertRoom, pageOf, pageSchema } from './people-pages.js'
import type { FriendState } from './people-records.js'
import type { PeopleWorld } from './people-world.js'
import { friendsResult, removedResult, stateResult } from './results.js'

export const onePersonSchema = Type.Object({ user: idSchema }, { additionalProperties: false })

/** Both rows, the peer's first, and both are told. */
async function set(world: PeopleWorld, user: string, peer: string, state: FriendState, peerState: FriendState): Promise<void> {
  const ts = Date.now()
  await world.records.putFriend(peer, { user, state: peerState, ts })
  await world.records.putFriend(user, { user: peer, state, ts })
  world.tell(user, { type: 'friend', user: peer, state })
  world.tell(peer, { type: 'friend', user, state: peerState })
  world.changed(user, peer)
}

async function add(world: PeopleWorld, user: string, peer: string): Promise<FriendState> {
  if (user === peer) throw refuse('invalid', 'nobody is his own friend')
  if (!(await isKnown(world.directory, peer))) throw refuse('not_found', `there is no user ${peer}`)
  const { records } = world
  if (await records.isBlocked(peer, user)) throw refuse('blocked', `${peer} has blocked you`)
  if (await records.isBlocked(user, peer)) throw refuse('conflict', `you have blocked ${peer}: blocks.remove comes first`)
  const [own, theirs] = await Promise.all([records.friend(user, peer), records.friend(peer, user)])
  if (own?.state === 'friend' && theirs?.state === 'friend') return 'friend'
  const isWanted = own?.state === 'received' || theirs?.state === 'requested' || theirs?.state === 'friend' || own?.state === 'friend'
  if (!isWanted && own?.state === 'requested' && theirs?.state === 'received') return 'requested'
  if (own === undefined) await assertRoom(records.friends(user), 'friends and requests')
  if (theirs === undefined) await assertRoom(records.friends(peer), `friends and requests: ${peer} has them, and you`)
  if (isWanted) await set(world, user, peer, 'friend', 'friend')
  else await set(world, user, peer, 'requested', 'received')
  return isWanted ? 'friend' : 'requested'
}

async function accept(world: PeopleWorld, user: string, peer: string): Promise<FriendState> {
  const own = await world.records.friend(user, peer)
  if (own === undefined || own.state === 'requested') throw refuse('not_found', `${peer} has not asked you`)
  return add(world, user, peer)
}

/** Ends a friendship or a request, whoever made it. */
export async function unfriend(world: PeopleWorld, user: string, peer: string): Promise<boolean> {
  const [own, theirs] = await Promise.all([world.records.friend(user, peer), world.records.friend(peer, user)])
  if (own === undefined && theirs === undefined) return false
  await world.records.removeFriend(peer, user)
  await world.records.removeFriend(user, peer)
  world.tell(user, { type: 'friend', user: peer, state: 'none' })
  world.tell(peer, { type: 'friend', user, state: 'none' })
  world.changed(user, peer)
  return true
}

export function friendMethods(world: PeopleWorld): Record<string, Method> {
  return {
    'friends.add': method(
      onePersonSchema,
      (caller, { user }) => world.between(caller.user, user, async () => ({ state: await add(world, caller.user, user) })),
      stateResult,
    ),
    'friends.accept': method(
      onePersonSchema,
      (caller, { user }) => world.between(caller.user, user, async () => ({ state: await accept(world, caller.user, user) })),
      stateResult,
    ),
    'friends.remove': method(
      onePersonSchema,
      (caller, { user }) => world.between(caller.user, user, async () => ({ removed: await unfriend(world, caller.user, user) })),
      removedResult,
    ),
    'friends.list': method(
      pageSchema,
      async (caller, params) => {
        const { page, next } = await pageOf(world.records.friends(caller.user), params)
        return { friends: page, next }
      },
      friendsResult,
    ),
  }
}
