/** Who may see whether somebody is online: who shares a conversation with him, a direct one or a group that both are in now. */
import type { ConversationRow, Directory } from '../../broker/store/store.js'
import { type ConversationId, directConversation, groupOf, isGroup } from '../../broker/topics.js'

export type Reads = Pick<Directory, 'conversation' | 'conversationsOf' | 'member'>

/**
 * The conversation by which `watcher` may see `user`; undefined: there is none. `known` is asked first, the one that it was before. Reads more
 * than a few rows only where neither is the answer.
 */
export async function sharedConversation(
  directory: Reads,
  watcher: string,
  user: string,
  known?: ConversationId,
): Promise<ConversationId | undefined> {
  const direct = directConversation(watcher, user)
  if (watcher === user) return direct
  if (known !== undefined && isGroup(known) && (await areMembers(directory, groupOf(known), watcher, user))) return known
  if ((await directory.conversation(watcher, direct)) !== undefined) return direct
  const [theirs, his] = await Promise.all([directory.conversationsOf(user), directory.conversationsOf(watcher)])
  const groups = new Set(presentGroups(theirs))
  return presentGroups(his).find((conv) => groups.has(conv))
}

/** The same, for many questions about one user: his conversations are read once. */
export function rememberingRowsOf(user: string, directory: Reads): Reads {
  let rows: Promise<ConversationRow[]> | undefined
  return {
    conversation: (of, conv) => directory.conversation(of, conv),
    member: (group, of) => directory.member(group, of),
    conversationsOf: (of) => {
      if (of !== user) return directory.conversationsOf(of)
      rows ??= directory.conversationsOf(user)
      return rows
    },
  }
}

async function areMembers(directory: Reads, group: string, ...users: string[]): Promise<boolean> {
  const members = await Promise.all(users.map((user) => directory.member(group, user)))
  return members.every((member) => member?.role !== undefined)
}

function presentGroups(rows: readonly ConversationRow[]): ConversationId[] {
  const isPresent = ({ conv, spans }: ConversationRow): boolean => {
    const last = spans?.at(-1)
    return isGroup(conv) && last !== undefined && last.to === undefined
  }
  return rows.filter(isPresent).map(({ conv }) => conv)
}
