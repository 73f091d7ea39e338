/** The conversations of a user that let others see him, as they were some seconds ago. */
import type { ConversationRow, Directory } from '../../broker/store/store.js'
import { type ConversationId, isGroup } from '../../broker/topics.js'
import { Recent } from './recent.js'

const keptMs = 5_000
const usersMax = 1_000

/** Direct conversations, and groups of which the user is a member. */
export type SharedRows = Recent<ReadonlySet<ConversationId>>

export const createSharedRows = (directory: Pick<Directory, 'conversationsOf'>): SharedRows =>
  new Recent({
    read: async (user) => new Set((await directory.conversationsOf(user)).filter(isPresent).map(({ conv }) => conv)),
    keptMs,
    keysMax: usersMax,
  })

function isPresent({ conv, spans }: ConversationRow): boolean {
  const last = spans?.at(-1)
  return !isGroup(conv) || (last !== undefined && last.to === undefined)
}
