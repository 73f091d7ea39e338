/**
 * What the checker needs after a run: the log as it stands on disk, read with the store itself from a data directory that no
 * process holds, and all that users can read of it through a server, by `history` and by `sync`.
 */
import { createLmdbStore } from '../../broker/store/lmdb/lmdb-store.js'
import type { Store } from '../../broker/store/store.js'
import { type ConversationId, conversationOf, usersOf } from '../../broker/topics.js'
import type { History, ReadRecord, StoredEntry } from './checker.js'
import type { ServerProcess } from './server-process.js'

/** Every conversation that one of the users or groups can have. The server must be stopped. */
export async function readLog(dir: string, convs: Iterable<ConversationId>): Promise<History['log']> {
  const store = await createLmdbStore({ dir })
  try {
    return await logOf(store, convs)
  } finally {
    await store.close()
  }
}

/** As `readLog`, of a store that is open. */
export async function logOf(store: Store, convs: Iterable<ConversationId>): Promise<History['log']> {
  const log = new Map<ConversationId, StoredEntry[]>()
  for (const conv of new Set(convs)) {
    const head = await store.log.head(conv)
    const entries: StoredEntry[] = []
    while (entries.length < head) {
      const part = await store.log.read(conv, entries.length + 1, head, 1_000)
      if (part.length === 0) break
      for (const { payload, ...entry } of part) entries.push({ ...entry, raw: payload.toString() })
    }
    if (entries.length > 0) log.set(conv, entries)
  }
  return log
}

/** By both ways, everything that the user is shown; conversations without a message are left out. */
export async function readAll(server: ServerProcess, user: string, convs: Iterable<ConversationId>): Promise<ReadRecord[]> {
  const reads: ReadRecord[] = []
  for (const conv of convs) {
    const address = conv.startsWith('g/') ? conv : `u/${otherOf(conv, user)}`
    const { status } = await server.call(user, 'history', { conv: address, limit: 1 })
    if (status !== 200) continue
    const messages = await server.history(user, address)
    reads.push({ user, conv, by: 'history', entries: messages.map(toEntry) })
  }
  return reads.concat(await readBySync(server, user))
}

function otherOf(conv: ConversationId, user: string): string {
  const [a, b] = usersOf(conv)
  return a === user ? b : a
}

const toEntry = (message: { seq: number }): { seq: number; raw: string } => ({ seq: message.seq, raw: JSON.stringify(message) })

async function readBySync(server: ServerProcess, user: string): Promise<ReadRecord[]> {
  const cursors: Record<string, number> = {}
  const found = new Map<ConversationId, ReadRecord>()
  for (;;) {
    const page = (await server.rpc(user, 'sync', { cursors })) as { messages: { conv: string; seq: number }[]; more: boolean }
    for (const { conv: address, ...message } of page.messages) {
      const conv = conversationOf(address, user) ?? ''
      const record = found.get(conv) ?? { user, conv, by: 'sync' as const, entries: [] }
      record.entries.push(toEntry(message))
      found.set(conv, record)
      cursors[address] = message.seq
    }
    if (!page.more) return [...found.values()]
    if (page.messages.length === 0) throw new Error(`sync of ${user} says that there is more, and gives nothing`)
  }
}
