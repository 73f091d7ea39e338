/**
 * People: owns the methods profile.*, friends.* and blocks.*, and the gate `authorizeDirect`: a block by the receiver, and with
 * PARLEY_STRANGERS=refuse not being his friend, keeps a user from writing to him.
 */
import { refuse } from '../../broker/errors.js'
import { InTurn } from '../../broker/in-turn.js'
import type { PluginFactory } from '../../broker/plugin.js'
import { directConversation } from '../../broker/topics.js'
import { blockMethods } from './blocks.js'
import { passes } from './fence.js'
import { friendMethods } from './friends.js'
import { PeopleRecords } from './people-records.js'
import type { PeopleWorld } from './people-world.js'
import { profileMethods } from './profiles.js'

/** What one node tells the others: an event for a user, or a conversation that is to be judged anew. */
interface Word {
  user?: string
  event?: object
  conv?: string
}

const busKind = 'people'

export const createPeople: PluginFactory = ({ store, log, hub, bus, config }) => {
  const records = new PeopleRecords(store.records)
  const turns = new InTurn()
  const hear = ({ user, event, conv }: Word): void => {
    if (conv !== undefined) log.conversations.changed(conv)
    if (user !== undefined && event !== undefined) for (const session of hub.sessionsOf(user)) session.sendEvent(event)
  }
  const say = (word: Word): void => {
    hear(word)
    bus.publish(busKind, Buffer.from(JSON.stringify(word)))
  }
  bus.on(busKind, (bytes) => hear(JSON.parse(bytes.toString()) as Word))
  const world: PeopleWorld = {
    records,
    directory: store.directory,
    tell: (user, event) => say({ user, event }),
    changed: (user, peer) => say({ conv: directConversation(user, peer) }),
    settled: (user, peer) => passes(log, directConversation(user, peer)),
    inTurn: (key, task) => turns.run(key, task),
  }
  return {
    name: 'people',
    authorizeDirect: async (from, to) => {
      if (await records.isBlocked(to, from)) return refuse('blocked', `${to} has blocked you`)
      if (config.strangers === 'allow' || (await records.friend(to, from))?.state === 'friend') return undefined
      return refuse('forbidden', `${to} takes messages from friends only; friends.add asks to be one`)
    },
    methods: { ...profileMethods(world), ...friendMethods(world), ...blockMethods(world) },
  }
}
