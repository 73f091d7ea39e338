/**
 * People: owns the methods profile.*, friends.* and blocks.*, and the gate `authorizeDirect`: a block by the receiver, and with
 * PARLEY_STRANGERS=refuse not being his friend, keeps a user from writing to him.
 */
import { refuse } from '../../broker/errors.js'
import { InTurn } from '../../broker/in-turn.js'
import type { PluginFactory } from '../../broker/plugin.js'
import { directConversation, usersOf } from '../../broker/topics.js'
import { blockMethods } from './blocks.js'
import { passes } from './fence.js'
import { friendMethods, unfriend } from './friends.js'
import { PeopleRecords } from './people-records.js'
import type { PeopleWorld } from './people-world.js'
import { profileMethods } from './profiles.js'

/** What one node tells the others: a conversation that is to be judged anew. */
const busKind = 'people'

export const createPeople: PluginFactory = ({ store, log, bus, signals, config, avatars, directChanged, busyChanged }) => {
  const records = new PeopleRecords(store.records)
  const turns = new InTurn()
  bus.on(busKind, (conv) => directChanged(...usersOf(conv.toString())))
  const world: PeopleWorld = {
    records,
    directory: store.directory,
    tell: (user, event) => signals.sendEvent(user, event),
    changed: (user, peer) => {
      directChanged(user, peer)
      bus.publish(busKind, Buffer.from(directConversation(user, peer)))
    },
    busyChanged,
    settled: (user, peer) => passes(log, directConversation(user, peer)),
    between: (user, peer, task) => turns.run([directConversation(user, peer)], task),
    avatars,
    ofProfile: (user, task) => turns.run([user], task),
  }
  return {
    name: 'people',
    authorizeDirect: async (from, to) => {
      if (await records.isBlocked(to, from)) return refuse('blocked', `${to} has blocked you`)
      if (config.strangers === 'allow' || (await records.friend(to, from))?.state === 'friend') return undefined
      return refuse('forbidden', `${to} takes messages from friends only; friends.add asks to be one`)
    },
    isBusy: async (user) => (await records.profile(user)).status === 'busy',
    avatarOf: async (user) => (await records.profile(user)).avatar_url,
    eraseUser: async (user) => {
      await records.removeProfile(user)
      for await (const { user: peer } of records.friends(user)) await world.between(user, peer, () => unfriend(world, user, peer))
      for await (const { user: peer } of records.blocks(user)) await records.removeBlock(user, peer)
    },
    async *exportUser(user) {
      yield { kind: 'profile', ...(await records.profile(user)) }
      for await (const { user: peer, state, ts } of records.friends(user)) yield { kind: 'friend', user: peer, state, ts }
      for await (const { user: peer, ts } of records.blocks(user)) yield { kind: 'block', user: peer, ts }
    },
    methods: { ...profileMethods(world), ...friendMethods(world), ...blockMethods(world) },
  }
}
