/**
 * Lists of a server of several nodes: to read thousands of rows takes a store far longer than to read a page of them. So the lists that were asked
 * for lately are kept, with what this node has heard since: whatever was acknowledged before a list is asked for has been told on the bus,
 * and before the list is given all that is on its way here is waited for. When anything may not have been heard, all is read again.
 * Of what is kept only the order is believed; the rows that are shown are read anew.
 */
import type { Head } from '../backlog.js'
import type { Bus } from '../bus.js'
import { type List, type Lists, newestFirst, placed } from '../lists.js'
import type { ConversationRow, Effect, RowAtHead, Store } from '../store/store.js'
import { type ConversationId, isGroup, usersOf } from '../topics.js'

export interface KeptListsOptions {
  store: Store
  bus: Bus
  /** Every node that is known is heard. */
  hearsAll: () => boolean
  now?: () => number
}

interface Kept {
  readonly rows: readonly RowAtHead[]
  /** They are in their places. */
  readonly isSorted: boolean
  /** It has all changes before this one. */
  readonly number: number
  readonly doubts: number
  readonly readMs: number
}

interface Change {
  conv: ConversationId
  /** Whose membership it was. */
  users: readonly string[]
}

const changesMax = 20_000
/** Of all lists together. */
const rowsMax = 200_000
const usersMax = 10_000
/** Shorter ones are read as quickly when they are asked for. */
const readElsewhereMin = 200
/** What should have been heard and was not is seen after so long. */
const keptMsMax = 60_000
/** Of more rows the whole list is read sooner. */
const changedMax = 200

export class KeptLists implements Lists {
  readonly #options: KeptListsOptions
  readonly #kept = new Map<string, Kept>()
  #rows = 0
  /** The number of the first of `changes`. */
  #first = 0
  #changes: Change[] = []
  #doubts = 0

  constructor(options: KeptListsOptions) {
    this.#options = options
  }

  /** Some node has written to this conversation. */
  changed(conv: ConversationId, effects: readonly Effect[]): void {
    if (this.#kept.size === 0) return
    const users = effects.length === 0 ? nobody : effects.flatMap((effect) => (effect.kind === 'member' ? [effect.record.user] : []))
    this.#changes.push({ conv, users })
    if (this.#changes.length < 2 * changesMax) return
    this.#first += changesMax
    this.#changes = this.#changes.slice(changesMax)
  }

  /** Something may have been written that was not heard here. */
  doubted(): void {
    this.#doubts++
    this.#kept.clear()
    this.#rows = 0
  }

  /** A list is about to be read elsewhere: what is called when it is there keeps it. */
  reading(user: string): (rows: readonly ConversationRow[], heads: readonly Head[]) => void {
    const from = this.#begin(user)
    return (rows, heads) => {
      if (from.doubts !== this.#doubts) return
      if (rows.length < readElsewhereMin) return this.#drop(user)
      this.#keep(user, { ...from, rows: rows.map((row, at) => ({ ...row, ...(heads[at] as Head) })), isSorted: false })
    }
  }

  async of(user: string): Promise<List> {
    const rows = (await this.#followed(user)) ?? (await this.#read(user))
    return { rows, current: (some) => this.#current(user, some) }
  }

  get #next(): number {
    return this.#first + this.#changes.length
  }

  async #current(user: string, some: readonly RowAtHead[]): Promise<readonly RowAtHead[]> {
    const now = await this.#options.store.directory.conversationsAtHead(
      user,
      some.map(({ conv }) => conv),
    )
    const byConv = new Map(now.map((row) => [row.conv, row]))
    return some.map((row) => byConv.get(row.conv) ?? row)
  }

  async #read(user: string): Promise<readonly RowAtHead[]> {
    const { store } = this.#options
    const from = this.#begin(user)
    const rows = newestFirst(await placed(store, await store.directory.conversationsAtHead(user)))
    if (from.doubts === this.#doubts) this.#keep(user, { ...from, rows, isSorted: true })
    return rows
  }

  /** From now on all changes are noted, also those that come while it is read. */
  #begin(user: string): Pick<Kept, 'number' | 'doubts' | 'readMs'> {
    const { now = performance.now.bind(performance) } = this.#options
    const from = { number: this.#next, doubts: this.#doubts, readMs: now() }
    this.#keep(user, this.#kept.get(user) ?? { ...from, rows: [], isSorted: true, number: -1 })
    return from
  }

  /** What is kept, with what has changed since; undefined when that is not known, or was not worth it. */
  async #followed(user: string): Promise<readonly RowAtHead[] | undefined> {
    const { bus, store } = this.#options
    if (!this.#isUsable(this.#kept.get(user))) return undefined
    try {
      await bus.caughtUp()
    } catch {
      return undefined // Whatever it was, the list is read.
    }
    const kept = this.#kept.get(user)
    if (kept === undefined || !this.#isUsable(kept)) return undefined
    const number = this.#next
    const changed = this.#changedIn(user, kept)
    if (changed.size === 0 && kept.isSorted) {
      this.#keep(user, { ...kept, number })
      return kept.rows
    }
    if (changed.size > changedMax) return undefined
    const anew = changed.size === 0 ? [] : await store.directory.conversationsAtHead(user, [...changed])
    const others = kept.rows.filter(({ conv }) => !changed.has(conv))
    const rows = newestFirst(kept.isSorted ? [...others, ...(await placed(store, anew))] : await placed(store, [...others, ...anew]))
    if (kept.doubts === this.#doubts) this.#keep(user, { ...kept, rows, number, isSorted: true })
    return rows
  }

  #isUsable(kept: Kept | undefined): boolean {
    const { bus, hearsAll, now = performance.now.bind(performance) } = this.#options
    if (kept === undefined || kept.number < this.#first || kept.doubts !== this.#doubts) return false
    return bus.isUp && hearsAll() && now() - kept.readMs < keptMsMax
  }

  #changedIn(user: string, { rows, number }: Kept): Set<ConversationId> {
    const found = new Set<ConversationId>()
    let groups: Set<ConversationId> | undefined
    for (let at = number - this.#first; at < this.#changes.length; at++) {
      const { conv, users } = this.#changes[at] as Change
      if (isGroup(conv)) {
        groups ??= new Set(rows.filter((row) => isGroup(row.conv)).map((row) => row.conv))
        if (groups.has(conv) || users.includes(user)) found.add(conv)
      } else if (usersOf(conv).includes(user)) found.add(conv)
    }
    return found
  }

  #drop(user: string): void {
    this.#rows -= this.#kept.get(user)?.rows.length ?? 0
    this.#kept.delete(user)
  }

  /** Least recently asked for first. */
  #keep(user: string, kept: Kept): void {
    this.#rows += kept.rows.length - (this.#kept.get(user)?.rows.length ?? 0)
    this.#kept.delete(user)
    this.#kept.set(user, kept)
    for (const [oldest, { rows }] of this.#kept) {
      if (this.#rows <= rowsMax && this.#kept.size <= usersMax) return
      this.#rows -= rows.length
      this.#kept.delete(oldest)
    }
  }
}

const nobody: readonly string[] = []
