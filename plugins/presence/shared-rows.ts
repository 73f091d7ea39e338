/**
 * The conversations of users as they were some seconds ago: after a break many watch the same users at once, and each watches many. Only what
 * is there is believed; that there is none is read anew.
 */
import type { ConversationRow, Directory } from '../../broker/store/store.js'
import { type ConversationId, isGroup } from '../../broker/topics.js'

const keptMs = 5_000
const usersMax = 1_000

interface Kept {
  readMs: number
  conversations: Promise<ReadonlySet<ConversationId>>
}

export class SharedRows {
  readonly #directory: Pick<Directory, 'conversationsOf'>
  /** The oldest first. */
  readonly #kept = new Map<string, Kept>()

  constructor(directory: Pick<Directory, 'conversationsOf'>) {
    this.#directory = directory
  }

  /** Direct conversations, and groups of which the user is a member. Not older than `sinceMs`, a monotonic time, nor than some seconds. */
  of(user: string, sinceMs: number): Promise<ReadonlySet<ConversationId>> {
    const nowMs = performance.now()
    const known = this.#kept.get(user)
    if (known !== undefined && known.readMs >= Math.max(sinceMs, nowMs - keptMs)) return known.conversations
    const conversations = this.#directory.conversationsOf(user).then((rows) => new Set(rows.filter(isPresent).map(({ conv }) => conv)))
    this.#kept.delete(user)
    this.#kept.set(user, { readMs: nowMs, conversations })
    conversations.catch(() => this.forget(user))
    for (const [oldest, { readMs }] of this.#kept) {
      if (this.#kept.size <= usersMax && nowMs - readMs < keptMs) break
      this.#kept.delete(oldest)
    }
    return conversations
  }

  forget(user: string): void {
    this.#kept.delete(user)
  }
}

function isPresent({ conv, spans }: ConversationRow): boolean {
  const last = spans?.at(-1)
  return !isGroup(conv) || (last !== undefined && last.to === undefined)
}
