/**
 * Where a session that opens stands: its user's conversations, and how far each has been dispatched on this node. What is up to there it
 * gets from the log, what is behind it live; so both must meet without a gap and without an overlap that it should not see.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import type { Head } from './backlog.js'
import type { ConversationRow, Store } from './store/store.js'
import type { ConversationId } from './topics.js'

export interface Standing {
  rows: ConversationRow[]
  /**
   * In the order of `rows`, as of this moment: all up to a head has been dispatched here or is in the log, all behind it will be
   * dispatched. To be called in the turn in which the session is put where it hears that.
   */
  heads(): Head[]
  /**
   * The session hears what is dispatched, or will never. To be called in the turn of `heads`. Returns direct conversations that are not among `rows`
   * because they are newer, and up to where they have been dispatched here: what of that the session was too late for it gets from the log.
   */
  done(): readonly Newer[]
}

export interface Newer {
  conv: ConversationId
  head: number
}

export interface Positions {
  /** Rejects when the store cannot be read. */
  of(user: string): Promise<Standing>
}

/** Between two looks at a commit that is visible and not yet dispatched, and how many there are: a commit answers within seconds. */
const aheadMs = 2
const readsMax = 5_000

/** With this head the log shows what was not dispatched yet. */
export type IsAhead = (conv: ConversationId, head: number) => boolean

/** Of a store with one writer, this process: its heads are what was dispatched. */
export class OwnPositions implements Positions {
  readonly #store: Store
  readonly #isAhead: IsAhead
  #turn: Promise<void> | undefined

  constructor(store: Store, isAhead: IsAhead = () => false) {
    this.#store = store
    this.#isAhead = isAhead
  }

  /**
   * The store may show a commit that was not dispatched: then a span speaks of a seq beyond the head, or whoever writes says so, and all is
   * read again. Joining by it would deliver what was before the join, or twice what is dispatched then.
   */
  async of(user: string): Promise<Standing> {
    const { directory, log } = this.#store
    for (let reads = 0; reads < readsMax; reads++) {
      // In a turn of its own: a commit that has been answered is then dispatched, too.
      await (reads === 0 ? this.#nextTurn() : delay(aheadMs))
      const rows = await directory.conversationsOf(user)
      const heads = rows.length === 0 ? [] : await log.heads(rows.map(({ conv }) => conv))
      const isAhead = ({ conv, spans = [] }: ConversationRow, index: number): boolean => {
        const head = heads[index]?.head ?? 0
        return this.#isAhead(conv, head) || spans.some(({ from, to = from }) => to > head)
      }
      if (!rows.some(isAhead)) return { rows, heads: () => heads, done: () => [] }
    }
    throw new Error(`the conversations of ${user} are ahead of the log`)
  }

  /** One for all who come in a turn. */
  #nextTurn(): Promise<void> {
    this.#turn ??= nextTurn().then(() => {
      this.#turn = undefined
    })
    return this.#turn
  }
}
