/** A user's conversations in the order of his list: newest first. Who shows some of them asks how these are now. */
import { visibleHead } from './backlog.js'
import type { RowAtHead, Store } from './store/store.js'

export interface List {
  readonly rows: readonly RowAtHead[]
  /** The same rows with heads, read positions and memberships as they are now. */
  current(rows: readonly RowAtHead[]): Promise<readonly RowAtHead[]>
}

export interface Lists {
  /** Has all that was acknowledged before the call, each in its place. */
  of(user: string): Promise<List>
}

/** `ts` is of the last entry that the user may see: when a group that he has left was last active is none of his business. */
export async function placed({ log }: Pick<Store, 'log'>, rows: readonly RowAtHead[]): Promise<RowAtHead[]> {
  const places = rows.flatMap((row) => {
    const seq = visibleHead(row, row.head)
    return seq === row.head ? [] : [{ conv: row.conv, seq }]
  })
  if (places.length === 0) return [...rows]
  const entries = await log.readEach(places)
  const tsOf = new Map(places.map(({ conv }, at) => [conv, entries[at]?.ts ?? 0]))
  return rows.map((row) => ({ ...row, ts: tsOf.get(row.conv) ?? row.ts }))
}

export const newestFirst = (rows: RowAtHead[]): RowAtHead[] => rows.sort((a, b) => b.ts - a.ts || (a.conv < b.conv ? -1 : 1))

/** Reads the whole list at each call. */
export class StoredLists implements Lists {
  readonly #store: Store

  constructor(store: Store) {
    this.#store = store
  }

  async of(user: string): Promise<List> {
    const rows = newestFirst(await placed(this.#store, await this.#store.directory.conversationsAtHead(user)))
    return { rows, current: async (some) => some }
  }
}
