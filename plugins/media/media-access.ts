/**
 * Who may see an object: who uploaded it, and whoever may read a message that refers to it. That is decided by the log at each request, so a
 * member who left keeps what was said in his time, a later one gets nothing of it, and a recall takes it from everybody but the uploader.
 */
import { visibleRanges } from '../../broker/backlog.js'
import type { LogEntry, Store } from '../../broker/store/store.js'
import { groupOf, isGroup, usersOf } from '../../broker/topics.js'
import type { MediaObject, MediaRecords, MediaRef } from './media-records.js'

/** The part of a stored message that speaks of an earlier one. */
interface Speaking {
  type: string
  body: { seq?: number }
}

const speakingOf = (entry: LogEntry): Speaking => JSON.parse(entry.payload.toString()) as Speaking

export class MediaAccess {
  constructor(
    readonly store: Store,
    readonly records: MediaRecords,
    /** Whether the user may see it as the picture of somebody. */
    readonly maySeeAsAvatar: (user: string, object: MediaObject) => Promise<boolean>,
  ) {}

  async mayRead(user: string, object: MediaObject): Promise<boolean> {
    if (object.user === user) return true
    for await (const ref of this.records.refs(object.id)) if (await this.#mayReadBy(user, ref)) return true
    return this.maySeeAsAvatar(user, object)
  }

  async #mayReadBy(user: string, ref: MediaRef): Promise<boolean> {
    const { conv } = ref
    if (!isGroup(conv)) return usersOf(conv).includes(user) && (await this.seqOf(ref)) !== undefined
    const spans = (await this.store.directory.member(groupOf(conv), user))?.spans
    const seq = spans && (await this.seqOf(ref))
    return seq !== undefined && visibleRanges(spans, seq, seq).length > 0
  }

  /** Of the message, if it was stored its content was not erased, and neither it nor what it edits was recalled. */
  async seqOf({ conv, from, id }: MediaRef): Promise<number | undefined> {
    const entry = await this.#entryOf(conv, from, id)
    if (entry === undefined) return undefined
    const { type, body } = speakingOf(entry)
    if (type === 'erased') return undefined
    const target = type === 'edit' ? body.seq : undefined
    for (const seq of target === undefined ? [entry.seq] : [entry.seq, target]) if (await this.#isRecalled(conv, seq)) return undefined
    return entry.seq
  }

  async #entryOf(conv: string, from: string, id: string): Promise<LogEntry | undefined> {
    const seq = await this.store.log.findSent(conv, from, id)
    return seq === undefined ? undefined : (await this.store.log.read(conv, seq, seq, 1))[0]
  }

  async #isRecalled(conv: string, seq: number): Promise<boolean> {
    for await (const recall of this.records.recalls(conv, seq)) if (await this.isRecallOf(recall, seq)) return true
    return false
  }

  /** Whether this send was stored, and as a recall of that message. */
  async isRecallOf({ conv, from, id }: MediaRef, seq: number): Promise<boolean> {
    const entry = await this.#entryOf(conv, from, id)
    if (entry === undefined) return false
    const { type, body } = speakingOf(entry)
    return type === 'recall' && body.seq === seq
  }
}
