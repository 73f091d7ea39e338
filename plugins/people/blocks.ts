/**
 * Block list: who is on it cannot write to its owner nor ask to be his friend, from the moment on at which `blocks.add` answers. In
 * groups both still see each other's messages.
 */
import { refuse } from '../../broker/errors.js'
import { isKnown } from '../../broker/known-user.js'
import { type Method, method } from '../../broker/plugin.js'
import { onePersonSchema, unfriend } from './friends.js'
import { assertRoom, pageOf, pageSchema } from './people-pages.js'
import type { PeopleWorld } from './people-world.js'
import { blocksResult, nothingResult } from './results.js'

async function block(world: PeopleWorld, user: string, peer: string): Promise<void> {
  if (user === peer) throw refuse('invalid', 'nobody blocks himself')
  if (!(await isKnown(world.directory, peer))) throw refuse('not_found', `there is no user ${peer}`)
  if (await world.records.isBlocked(user, peer)) return
  await assertRoom(world.records.blocks(user), 'blocks')
  await world.records.putBlock(user, { user: peer, ts: Date.now() })
  world.changed(user, peer)
  await world.settled(user, peer)
  await unfriend(world, user, peer)
  world.tell(user, { type: 'block', user: peer, on: true })
}

async function unblock(world: PeopleWorld, user: string, peer: string): Promise<void> {
  if (!(await world.records.isBlocked(user, peer))) return
  await world.records.removeBlock(user, peer)
  world.changed(user, peer)
  world.tell(user, { type: 'block', user: peer, on: false })
}

export function blockMethods(world: PeopleWorld): Record<string, Method> {
  return {
    'blocks.add': method(
      onePersonSchema,
      async (caller, { user }) => {
        await world.between(caller.user, user, () => block(world, caller.user, user))
        return {}
      },
      nothingResult,
    ),
    'blocks.remove': method(
      onePersonSchema,
      async (caller, { user }) => {
        await world.between(caller.user, user, () => unblock(world, caller.user, user))
        return {}
      },
      nothingResult,
    ),
    'blocks.list': method(
      pageSchema,
      async (caller, params) => {
        const { page, next } = await pageOf(world.records.blocks(caller.user), params)
        return { blocks: page, next }
      },
      blocksResult,
    ),
  }
}
