/**
 * Which sessions of this node hear which group: those of its members, from the entry that adds the member to the one that removes him, both
 * included. A session enters when it opens, and then follows what is dispatched; what was not dispatched of its coming it gets from
 * the log.
 */
import { type Head, replayed, visibleRanges } from './backlog.js'
import { removeFrom } from './remove-from.js'
import type { MembershipChange, Range, Session } from './session.js'
import type { ConversationRow, MemberRecord, Span } from './store/store.js'
import { type ConversationId, isGroup } from './topics.js'

export class Audiences {
  /** Groups with at least one present member here. */
  readonly #audiences = new Map<ConversationId, Session[]>()
  readonly #sessionsOf: (user: string) => readonly Session[]

  constructor(sessionsOf: (user: string) => readonly Session[]) {
    this.#sessionsOf = sessionsOf
  }

  /** undefined: nobody. */
  of(conv: ConversationId): readonly Session[] | undefined {
    return this.#audiences.get(conv)
  }

  // --- sessions -----------------------------------------------------------------------------------------------------

  /** Puts the session where it hears its groups; the heads, where a removal that was dispatched meanwhile ends what it may read. */
  join(session: Session, rows: readonly ConversationRow[], heads: readonly Head[]): Head[] {
    const { changes } = session
    session.changes = undefined
    return rows.map(({ conv, spans }, index) => {
      const position = heads[index] as Head
      if (!isGroup(conv)) return position
      const changed = changes?.get(conv)
      const last = spans?.at(-1)
      if (changed?.isIn ?? (last !== undefined && last.to === undefined)) this.#enter(conv, session)
      else formerGroup(session, conv, position.head)
      return changed?.outAt === undefined ? position : { ...position, head: Math.min(position.head, changed.outAt) }
    })
  }

  close(session: Session): void {
    for (const conv of session.groups ?? []) removeFrom(this.#audiences, conv, session)
    session.groups = undefined
  }

  #enter(conv: ConversationId, session: Session): void {
    if (session.groups?.has(conv)) return
    session.groups ??= new Set()
    session.groups.add(conv)
    const audience = this.#audiences.get(conv)
    if (audience === undefined) this.#audiences.set(conv, [session])
    else audience.push(session)
  }

  // --- members ------------------------------------------------------------------------------------------------------

  /** A new member hears the entry that adds him, and before it what he missed when an earlier one was not heard of on this node. */
  admit(conv: ConversationId, { user, spans }: MemberRecord, seq: number): void {
    for (const session of this.#sessionsOf(user)) {
      if (session.isPlaced && !session.groups?.has(conv)) session.missed(conv, unheardOf(session, conv, spans, seq - 1))
      this.#enter(conv, session)
      if (!session.isPlaced) noteChange(session, conv, { isIn: true, outAt: session.changes?.get(conv)?.outAt })
    }
  }

  /** A former member hears the entry that removes him, and nothing behind it. */
  dismiss(conv: ConversationId, { user, spans }: MemberRecord, seq: number): void {
    for (const session of this.#sessionsOf(user)) {
      if (session.isPlaced && !session.groups?.has(conv)) session.missed(conv, unheardOf(session, conv, spans, seq))
      if (session.groups?.delete(conv)) removeFrom(this.#audiences, conv, session)
      formerGroup(session, conv, seq)
      if (!session.isPlaced) noteChange(session, conv, { isIn: false, outAt: session.changes?.get(conv)?.outAt ?? seq })
    }
  }

  /** A member came whom nobody told of, though all up to `position` was dispatched: he gets what he missed, and what comes. */
  joinLate(conv: ConversationId, { user, spans }: MemberRecord, position: number): void {
    const last = spans.at(-1)
    const isIn = last !== undefined && last.from <= position && (last.to ?? position + 1) > position
    for (const session of this.#sessionsOf(user)) {
      if (!session.isPlaced || session.groups?.has(conv)) continue
      session.missed(conv, unheardOf(session, conv, spans, position))
      if (isIn) this.#enter(conv, session)
      else formerGroup(session, conv, position)
    }
  }
}

/** What is dispatched before a session is in its place counts more than what was read. */
function noteChange(session: Session, conv: ConversationId, change: MembershipChange): void {
  session.changes ??= new Map()
  session.changes.set(conv, change)
}

function formerGroup(session: Session, conv: ConversationId, heardTo: number): void {
  session.formerGroups ??= new Map()
  session.formerGroups.set(conv, heardTo)
}

/** What a member may see of a group up to `to` and his session has not heard. */
function unheardOf(session: Session, conv: ConversationId, spans: readonly Span[], to: number): Range[] {
  return visibleRanges(replayed(spans), (session.formerGroups?.get(conv) ?? 0) + 1, to)
}
