/**
 * Folds entries of a log into what they come to: a recalled message without its content, an edited one with its last body,
 * reactions by emoji. An action whose message is not among the entries stays as it is. Pure.
 */

/** A stored message as JSON; what is not named here is passed through. */
export interface FoldableMessage {
  seq: number
  ts: number
  from: string
  type: string
  body?: unknown
  [field: string]: unknown
}

/** What a recall leaves of a message. */
const keptFields: ReadonlySet<string> = new Set(['conv', 'seq', 'ts', 'from', 'to', 'group', 'id', 'type'])

/** `messages` in ascending seq within each conversation; `conv` tells conversations apart where there are several. */
export function foldMessages(messages: readonly FoldableMessage[]): FoldableMessage[] {
  const byPlace = new Map<string, FoldableMessage>()
  const folded: FoldableMessage[] = []
  for (const message of messages) {
    const target = byPlace.get(placeOf(message, targetOf(message)))
    if (target !== undefined) apply(target, message)
    else {
      const copy = { ...message }
      folded.push(copy)
      if (targetOf(message) === undefined) byPlace.set(placeOf(message, message.seq), copy)
    }
  }
  return folded
}

const placeOf = ({ conv = '' }: FoldableMessage, seq: number | undefined): string => `${String(conv)} ${seq}`

/** The seq that a recall, edit or reaction speaks of. */
export function targetOf({ type, body }: FoldableMessage): number | undefined {
  return type === 'recall' || type === 'edit' || type === 'reaction' ? (body as { seq: number }).seq : undefined
}

/** An entry that is no message but speaks of one, or did before its content was erased. */
export const isAction = ({ type, was }: FoldableMessage): boolean => actions.has(type === 'erased' ? String(was) : type)

const actions: ReadonlySet<string> = new Set(['recall', 'edit', 'reaction'])

function apply(target: FoldableMessage, { type, from, ts, seq, body }: FoldableMessage): void {
  if (target.recalled !== undefined) return
  if (type === 'recall') {
    for (const field of Object.keys(target)) if (!keptFields.has(field)) delete target[field]
    target.recalled = { by: from, seq, ts }
  } else if (type === 'edit') {
    target.body = (body as { body: unknown }).body
    target.edited = { seq, ts }
  } else react(target, from, body as { emoji: string; on: boolean })
}

function react(target: FoldableMessage, from: string, { emoji, on }: { emoji: string; on: boolean }): void {
  const reactions = new Map(Object.entries((target.reactions ?? {}) as Record<string, string[]>))
  const others = (reactions.get(emoji) ?? []).filter((user) => user !== from)
  if (on) others.push(from)
  if (others.length > 0) reactions.set(emoji, others)
  else reactions.delete(emoji)
  if (reactions.size > 0) target.reactions = Object.fromEntries(reactions)
  else delete target.reactions
}
