/** What the parts of the people plugin share: records, who is told of what, and whose conversations must be judged anew. */
import type { Avatars } from '../../broker/avatars.js'
import type { Directory } from '../../broker/store/store.js'
import type { PeopleRecords } from './people-records.js'

export interface PeopleWorld {
  readonly records: PeopleRecords
  readonly directory: Directory
  readonly avatars: Avatars
  /** An event to all live sessions of a user, on every node. */
  tell(user: string, event: { type: string; [field: string]: unknown }): void
  /** May one write to the other? The answer may be another one now. */
  changed(user: string, peer: string): void
  /** The status of the user may be another one now. */
  busyChanged(user: string): void
  /** Resolves when what they have written to each other until now is stored or refused. */
  settled(user: string, peer: string): Promise<void>
  /** Calls about the same two people come one after the other. */
  between<Result>(user: string, peer: string, task: () => Promise<Result>): Promise<Result>
  /** So do those about one profile. */
  ofProfile<Result>(user: string, task: () => Promise<Result>): Promise<Result>
}
