/** What the checker says of a history: how much of what was seen, and every promise that was broken. */

/** What can be wrong, and the invariant that it breaks. */
export const wrongs = {
  lost: { invariant: 'I1, I2', meaning: 'acknowledged and not in the log, or stored and not delivered or readable' },
  duplicated: { invariant: 'I3', meaning: 'stored twice, or delivered twice on one connection' },
  reordered: { invariant: 'I4', meaning: 'delivered, stored or read in another order' },
  gaps: { invariant: 'I4', meaning: 'a seq that is missing in the log or was passed over in a delivery' },
  changed: { invariant: 'I4', meaning: 'another content than was sent, or than others saw' },
  leaked: { invariant: 'I5', meaning: 'seen or written by who was no member then' },
  'falsely acked': { invariant: 'I6', meaning: 'PUBACK without being stored, or an ack or refusal that is not true' },
  unlawful: { invariant: 'rules', meaning: 'stored, though the sender was blocked, muted, or not the author of what it recalls or edits' },
  status: { invariant: 'rules', meaning: 'a receipt, read position or unread count that is not true' },
  unbounded: { invariant: 'I7', meaning: 'crashes, faults in the log, connections that are kept' },
  sessions: { invariant: 'I8', meaning: 'a session lost or invented, two at a time, one past its token' },
  presence: { invariant: 'I9', meaning: 'shown offline while connected, online when gone, or not at all, for too long' },
} as const satisfies Record<string, { invariant: string; meaning: string }>

/** Descriptors beside the sockets of clients: connections of the audit itself, files of the store. */
export const descriptorsSpare = 100
/** How late the event loop of a server may be when nothing is done any more. */
export const lagMsMax = 500

export type Wrong = keyof typeof wrongs
export const wrongNames = Object.keys(wrongs) as Wrong[]

export interface Violation {
  wrong: Wrong
  text: string
}

export interface Verdict {
  /** Messages that clients wanted to send; some of them refused, and some by several sessions. */
  sent: number
  acked: number
  refused: number
  stored: number
  delivered: number
  /** Of these, from the log after a reconnect. */
  replayed: number
  /** Delivered again to the same session: allowed. */
  repeated: number
  connections: number
  wrong: Record<Wrong, number>
  /** The first ones of each kind. */
  violations: Violation[]
  notes: string[]
}

/** Takes one violation; checks call it as often as they find one. */
export type Report = (wrong: Wrong, text: string) => void

export const violationCount = ({ wrong }: Verdict): number => wrongNames.reduce((sum, name) => sum + wrong[name], 0)
