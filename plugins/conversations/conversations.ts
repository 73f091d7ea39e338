/**
 * What a user can read: owns the methods history, sync, conversations and conversation.update. All of it is a view of the log and of the
 * user's row of a conversation.
 */
import type { PluginFactory } from '../../broker/plugin.js'
import { addressOf } from '../../broker/topics.js'
import { warmUp } from '../../broker/warm-up.js'
import { historyMethod } from './history.js'
import { listMethod } from './list.js'
import { Preferences, updateMethod } from './preferences.js'
import { syncMethod } from './sync.js'

export const createConversations: PluginFactory = ({ store, lists, delivered, signals, logger }) => {
  const preferences = new Preferences(store, signals)
  const conversations = listMethod({ store, lists, delivered, preferences })
  return {
    name: 'conversations',
    start: () => warmUp({ store, logger }, (user) => conversations.handle({ user, device: '' }, {} as never)),
    eraseUser: (user) => preferences.forget(user),
    async *exportUser(user) {
      for (const [conv, preference] of await preferences.of(user)) yield { kind: 'preference', conv: addressOf(conv, user), ...preference }
    },
    methods: {
      history: historyMethod(store),
      sync: syncMethod({ store, lists }),
      conversations,
      'conversation.update': updateMethod(preferences),
    },
  }
}
