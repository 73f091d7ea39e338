/**
 * One change of a group: an operation of its own log that decides at the head who may do what, and writes what it says and does in
 * one `system` entry.
 */
import { randomUUID } from 'node:crypto'
import { type Conversation, type GroupState, isMember } from '../../broker/conversation.js'
import { Refusal, refuse } from '../../broker/errors.js'
import type { LogWriter } from '../../broker/log-writer.js'
import type { Operation, Plan } from '../../broker/operation.js'
import type { Effect, LogEntry, MemberRecord, Role, Span } from '../../broker/store/store.js'
import { type ConversationId, groupConversation } from '../../broker/topics.js'

/** What a change says in its entry and does to the group. */
export interface Change {
  body: Record<string, unknown>
  effects: Effect[]
}

/** Decides on a change; `seq` is that of its entry. undefined: there is nothing to change. Throws a Refusal. */
export type Decide = (group: GroupState | undefined, seq: number) => Change | undefined

class GroupOperation implements Operation {
  readonly device = ''
  readonly id = `sys-${randomUUID()}`
  readonly retransmit = undefined
  readonly isRetry = false
  readonly target = undefined
  #isUnchanged = false

  constructor(
    readonly conv: ConversationId,
    readonly from: string,
    readonly decide: Decide,
    readonly resolve: (entry: LogEntry | undefined) => void,
    readonly reject: (error: Refusal) => void,
  ) {}

  plan(state: Conversation, seq: number): Plan | Refusal {
    try {
      const change = this.decide(state.group, seq)
      if (change !== undefined) {
        const tail = `"from":"${this.from}","group":"${this.conv.slice(2)}","id":"${this.id}","type":"system","body":${JSON.stringify(change.body)}`
        return { tail: Buffer.from(tail), effects: change.effects }
      }
      this.#isUnchanged = true
      return refuse('conflict', 'nothing to change')
    } catch (error) {
      if (error instanceof Refusal) return error
      throw error
    }
  }

  stored(entry: LogEntry): void {
    this.resolve(entry)
  }

  duplicate(entry: LogEntry): void {
    this.resolve(entry)
  }

  refused(error: Refusal): void {
    if (this.#isUnchanged) this.resolve(undefined)
    else this.reject(error)
  }

  failed(why: string): void {
    this.reject(refuse('unavailable', why))
  }
}

/** Resolves when the change is durable; undefined when there was nothing to change. */
export function change(log: LogWriter, group: string, actor: string, decide: Decide): Promise<LogEntry | undefined> {
  return new Promise((resolve, reject) => log.submit(new GroupOperation(groupConversation(group), actor, decide, resolve, reject), 1_024))
}

export const roleOf = (group: GroupState, user: string): Role | undefined => group.members.get(user)?.role

/** An outsider is told that he may not, a member of nothing that there is nothing. */
export function assertMember(group: GroupState | undefined, name: string, user: string): asserts group is GroupState {
  if (group === undefined) throw refuse('not_found', `there is no group ${name}`)
  if (!isMember(group, user)) throw refuse('forbidden', `you are not a member of g/${name}`)
}

export function assertModerator(group: GroupState | undefined, name: string, user: string): asserts group is GroupState {
  assertMember(group, name, user)
  if (roleOf(group, user) === 'member') throw refuse('forbidden', 'only the owner and admins of the group may do this')
}

export function memberEffect(group: string, record: MemberRecord): Effect {
  return { kind: 'member', group, record }
}

/** Who joins reads from `seq` on; with `history` also what was before, which is his to read and is not replayed. */
export function joined(
  group: string,
  {
    user,
    role,
    seq,
    before,
    history,
  }: { user: string; role: Role; seq: number; before: MemberRecord | undefined; history: string | undefined },
): Effect {
  const spans = before?.spans ?? []
  const earlier = history === 'all' ? withGapsFilled(spans, seq) : spans
  return memberEffect(group, { ...before, user, role, spans: [...earlier, { from: seq }] })
}

function withGapsFilled(spans: readonly Span[], end: number): Span[] {
  const filled: Span[] = []
  let next = 1
  for (const span of spans) {
    if (span.from > next) filled.push({ from: next, to: span.from - 1, history: true })
    filled.push(span)
    next = (span.to ?? span.from) + 1
  }
  if (next < end) filled.push({ from: next, to: end - 1, history: true })
  return filled
}

/** The last entry that a former member may see is the one that says so. Who is muted stays so, in case he comes back. */
export function left(group: string, record: MemberRecord, seq: number): Effect {
  const spans = record.spans.map((span) => (span.to === undefined ? { ...span, to: seq } : span))
  return memberEffect(group, { ...record, role: undefined, spans })
}
