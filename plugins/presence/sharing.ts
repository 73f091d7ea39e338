/** Who may see whether somebody is online: who shares a conversation with him, a direct one or a group that both are in now. */
import type { Directory } from '../../broker/store/store.js'
import { type ConversationId, directConversation, groupOf, isGroup } from '../../broker/topics.js'
import type { SharedRows } from './shared-rows.js'

export interface SharingWorld {
  readonly directory: Pick<Directory, 'member'>
  readonly rows: SharedRows
}

/** The conversation by which `watcher` may see `user`; undefined: there is none. `known` is the one that it was before, which costs least. */
export async function sharedConversation(
  { directory, rows }: SharingWorld,
  watcher: string,
  user: string,
  known?: ConversationId,
): Promise<ConversationId | undefined> {
  const direct = directConversation(watcher, user)
  // A direct conversation does not end.
  if (watcher === user || known === direct) return direct
  if (known !== undefined && isGroup(known) && (await areMembers(directory, groupOf(known), watcher, user))) return known
  const askedMs = performance.now()
  return (await findShared(rows, watcher, user, 0)) ?? findShared(rows, watcher, user, askedMs)
}

async function findShared(rows: SharedRows, watcher: string, user: string, sinceMs: number): Promise<ConversationId | undefined> {
  const his = await rows.of(watcher, sinceMs)
  const direct = directConversation(watcher, user)
  if (his.has(direct)) return direct
  for (const conv of await rows.of(user, sinceMs)) if (isGroup(conv) && his.has(conv)) return conv
  return undefined
}

async function areMembers(directory: SharingWorld['directory'], group: string, ...users: string[]): Promise<boolean> {
  const members = await Promise.all(users.map((user) => directory.member(group, user)))
  return members.every((member) => member?.role !== undefined)
}
