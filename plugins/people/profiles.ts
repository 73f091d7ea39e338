/**
 * Profiles: name, picture and status of a user, for everybody who knows his id; the status not for whom he has blocked. A change is
 * told to the user's own sessions and to those of his friends.
 */
import { Type } from 'typebox'
import { refuse } from '../../broker/errors.js'
import { isKnown } from '../../broker/known-user.js'
import { idSchema } from '../../broker/payloads.js'
import { type Method, method } from '../../broker/plugin.js'
import { userAddress } from '../../broker/topics.js'
import type { Profile } from './people-records.js'
import type { PeopleWorld } from './people-world.js'
import { profileResult } from './results.js'

const strict = { additionalProperties: false }

const changesSchema = Type.Object(
  {
    name: Type.Optional(Type.String({ maxLength: 128 })),
    avatar_url: Type.Optional(Type.String({ maxLength: 2048 })),
    status: Type.Optional(Type.Enum(['available', 'busy'])),
  },
  strict,
)

async function get(world: PeopleWorld, caller: string, user: string): Promise<object> {
  if (!(await isKnown(world.directory, user))) throw refuse('not_found', `there is no user ${user}`)
  const { status = 'available', ...open } = await world.records.profile(user)
  if (await world.records.isBlocked(user, caller)) return { user, ...open }
  return { user, ...open, status }
}

/** An empty text takes a field away. */
async function update(world: PeopleWorld, user: string, changes: Profile): Promise<object> {
  const before = await world.records.profile(user)
  const { name, avatar_url, status }: Profile = { ...before, ...changes }
  if (changes.avatar_url !== undefined) await world.avatars.prepare(user, userAddress(user), changes.avatar_url)
  const profile: Profile = {}
  if (name) profile.name = name
  if (avatar_url) profile.avatar_url = avatar_url
  if (status !== undefined) profile.status = status
  await world.records.putProfile(user, profile)
  if (before.status !== status) world.busyChanged(user)
  const event = { type: 'profile', user, ...profile, status: status ?? 'available' }
  world.tell(user, event)
  for await (const { user: friend, state } of world.records.friends(user)) if (state === 'friend') world.tell(friend, event)
  return { user, ...profile, status: status ?? 'available' }
}

export const profileMethods = (world: PeopleWorld): Record<string, Method> => ({
  'profile.get': method(
    Type.Object({ user: Type.Optional(idSchema) }, strict),
    (caller, { user = caller.user }) => get(world, caller.user, user),
    profileResult,
  ),
  'profile.update': method(
    changesSchema,
    (caller, changes) => world.ofProfile(caller.user, () => update(world, caller.user, changes as Profile)),
    profileResult,
  ),
})
