/** The built-in plugins in their order: gates first, then the owners of topics and methods. */
import type { Move } from '../broker/migrate/migrate.js'
import type { PluginFactory } from '../broker/plugin.js'
import { acl } from './acl.js'
import { auth } from './auth.js'
import { createConversations } from './conversations/conversations.js'
import { createDevices } from './devices/devices.js'
import { createGroups } from './groups/groups.js'
import { limits } from './limits.js'
import { createMedia } from './media/media.js'
import { moveMedia } from './media/move-media.js'
import { createMessages } from './messages.js'
import { createPeople } from './people/people.js'
import { createPresence } from './presence/presence.js'
import { createReadPositions } from './read-positions.js'
import { createReceipts } from './receipts.js'
import { createTyping } from './typing.js'

export const builtInPlugins: readonly PluginFactory[] = [
  (server) => auth(server),
  (server) => limits(server),
  (server) => acl(server),
  createMessages,
  createMedia,
  createGroups,
  createPeople,
  createReadPositions,
  createTyping,
  createPresence,
  createReceipts,
  createDevices,
  createConversations,
]

/** What plugins keep beside the store goes to a cluster by these. */
export const moves: readonly Move[] = [moveMedia]
