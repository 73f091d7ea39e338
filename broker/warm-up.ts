/**
 * Does for some users, before the server listens, what clients are about to ask for. The code of such a call runs thousands of times in one
 * go, so the first one after a start would take several times as long as every later one: until it is compiled, and what it reads is in memory.
 */
import type { Logger } from './logger.js'
import type { ConversationRow, Store } from './store/store.js'

const rowsMax = 4_000
const usersMax = 300
/** A start does not take much longer for it. */
const msMax = 300

/** `use` is called for one user after the other, with his conversations. Does not reject: it was for speed alone. */
export async function warmUp(
  { store, logger }: { store: Store; logger: Logger },
  use: (user: string, rows: readonly ConversationRow[]) => Promise<unknown>,
): Promise<void> {
  // Of a store that many nodes share each would ask for the same again.
  if (store.isShared) return
  const endMs = performance.now() + msMax
  let [users, rows] = [0, 0]
  try {
    for await (const { user } of store.directory.users()) {
      if (++users > usersMax || rows > rowsMax || performance.now() > endMs) return
      const own = await store.directory.conversationsOf(user)
      rows += own.length
      await use(user, own)
    }
  } catch (error) {
    logger.debug({ err: error }, 'what clients are about to ask for could not be done ahead')
  }
}
