/** Which sessions of this node watch whom, found by either. */

import type { Standing } from '../../broker/device-registry.js'
import type { Session } from '../../broker/session.js'
import type { ConversationId } from '../../broker/topics.js'
import type { PresenceValue } from './value.js'

/** One session that watches one user. */
export interface Watch {
  readonly session: Session
  /** What they share; undefined: that is still to be found. */
  via: ConversationId | undefined
  /** The user has blocked the watcher, who sees him offline. */
  isHidden: boolean
  /** When `via` and `isHidden` were found, monotonic; 0: they may be wrong now. */
  judgedMs: number
  /** What the session was told last. */
  told: string | undefined
}

/** A user whom somebody watches. */
export interface Watched {
  readonly user: string
  readonly watches: Map<Session, Watch>
  /** What was known last; undefined: nothing yet. */
  standing: Standing | undefined
  /** Times that somebody has told that the value may be another one. */
  changes: number
  /** What those see who may, of that standing; undefined: to be found. */
  value: PresenceValue | undefined
  /** The same as it is sent, of the last value that was found. */
  payload: string | undefined
}

export class Watches {
  readonly #watched = new Map<string, Watched>()
  readonly #bySession = new Map<Session, Set<string>>()
  #size = 0

  get size(): number {
    return this.#size
  }

  of(user: string): Watched | undefined {
    return this.#watched.get(user)
  }

  find(session: Session, user: string): Watch | undefined {
    return this.#watched.get(user)?.watches.get(session)
  }

  /** How many users the session watches. */
  countOf(session: Session): number {
    return this.#bySession.get(session)?.size ?? 0
  }

  usersOf(session: Session): Iterable<string> {
    return this.#bySession.get(session) ?? []
  }

  users(): IterableIterator<string> {
    return this.#watched.keys()
  }

  get userCount(): number {
    return this.#watched.size
  }

  add(user: string, watch: Watch): void {
    let watched = this.#watched.get(user)
    if (watched === undefined) {
      watched = { user, watches: new Map(), standing: undefined, changes: 0, value: undefined, payload: undefined }
      this.#watched.set(user, watched)
    }
    const users = this.#bySession.get(watch.session)
    if (users === undefined) this.#bySession.set(watch.session, new Set([user]))
    else users.add(user)
    if (!watched.watches.has(watch.session)) this.#size++
    watched.watches.set(watch.session, watch)
  }

  remove(session: Session, user: string): void {
    const watched = this.#watched.get(user)
    if (!watched?.watches.delete(session)) return
    this.#size--
    if (watched.watches.size === 0) this.#watched.delete(user)
    const users = this.#bySession.get(session)
    users?.delete(user)
    if (users?.size === 0) this.#bySession.delete(session)
  }
}
