/**
 * Persistent sessions on MongoDB: of each device one document with its last epoch and, while it has a stored session, its cursors. Every
 * write names the epoch in its filter, so one that comes late finds no document and makes none. Writes of this node to one session
 * keep their order. The document of a device without a stored session goes after 30 days.
 */

import { randomInt } from 'node:crypto'
import { InTurn } from '../../in-turn.js'
import type { ConversationId } from '../../topics.js'
import type { MovedCursor, SessionRecord, SessionStore } from '../store.js'
import { fieldOf, nameOf, pairId, type SessionDocument } from './collections.js'
import { behindEpoch } from './last-sends.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'

/** By chance: of two updates of one document at the same moment FerretDB 1 loses one, and two sessions of one epoch would both stay. */
const epochStepMax = 2 ** 16

const withoutCursors = { projection: { cursors: 0 } }
const isStored = { createdTs: { $exists: true } }

export class MongodbSessionStore implements SessionStore {
  readonly #server: MongodbServer
  readonly #queue = new InTurn()

  constructor(server: MongodbServer) {
    this.#server = server
  }

  open(user: string, device: string): Promise<{ epoch: number; stored: SessionRecord | undefined }> {
    const { sessions } = this.#server.collections
    const _id = pairId(user, device)
    return this.#queue.run([_id], async () => {
      for (;;) {
        // With its cursors: FerretDB cannot leave them out.
        const update = { $inc: { epoch: randomInt(1, epochStepMax) } }
        const found = await this.#server.run(() => sessions.findOneAndUpdate({ _id }, update, { returnDocument: 'after' }))
        if (found !== null) return { epoch: found.epoch, stored: recordOf(found) }
        // The time: higher than all that were counted before an earlier document of this name went.
        const first = { _id, user, device, epoch: Date.now(), endedAt: new Date() }
        let isFirst = false
        await this.#server.runUnlessThere(async () => {
          isFirst = (await sessions.insertOne(first)).acknowledged
        })
        if (isFirst) return { epoch: first.epoch, stored: undefined }
      }
    })
  }

  async lastEpoch(user: string, device: string): Promise<number> {
    const { sessions } = this.#server.collections
    const found = await this.#server.run(() => sessions.findOne({ _id: pairId(user, device) }, withoutCursors))
    return found?.epoch ?? 0
  }

  async get(user: string, device: string): Promise<SessionRecord | undefined> {
    const { sessions } = this.#server.collections
    const found = await this.#server.run(() => sessions.findOne({ _id: pairId(user, device) }, withoutCursors))
    return found === null ? undefined : recordOf(found)
  }

  async list(user: string): Promise<SessionRecord[]> {
    const { sessions } = this.#server.collections
    const found = await this.#server.run(() => sessions.find({ user, ...isStored }, withoutCursors).toArray())
    return found.map(recordOf).filter((record) => record !== undefined)
  }

  async *all(): AsyncIterable<SessionRecord> {
    for await (const document of inOrder(this.#server, this.#server.collections.sessions, { cursors: 0 })) {
      const record = recordOf(document)
      if (record !== undefined) yield record
    }
  }

  async create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void> {
    const { sessions } = this.#server.collections
    const { user, device, epoch } = record
    const _id = pairId(user, device)
    const $set = { ...record, cursors: Object.fromEntries([...cursors].map(([conv, seq]) => [fieldOf(conv), seq])) }
    await this.#queue.run([_id], async () => {
      let isOther = false
      // A document with a later epoch is there and not found: to make another is refused.
      await this.#server.runUnlessThere(async () => {
        const update = { $set, $unset: { endedAt: '' } } as const
        isOther = (await sessions.updateOne({ _id, epoch: { $lte: epoch } }, update, { upsert: true })).matchedCount > 0
      })
      if (isOther) await this.#forgetRetransmits(user, device, epoch)
    })
  }

  async cursors(user: string, device: string): Promise<Map<ConversationId, number>> {
    const found = await this.#server.run(() => this.#server.collections.sessions.findOne({ _id: pairId(user, device) }))
    return new Map(Object.entries(found?.cursors ?? {}).map(([field, seq]) => [nameOf(field), seq]))
  }

  async saveCursors(cursors: readonly MovedCursor[], seenTs: number): Promise<void> {
    if (cursors.length === 0) return
    const bySession = new Map<string, { _id: string; epoch: number; $set: Record<string, number> }>()
    for (const { user, device, epoch, conv, seq } of cursors) {
      const _id = pairId(user, device)
      const key = `${_id} ${epoch}`
      const update = bySession.get(key) ?? { _id, epoch, $set: { seenTs } }
      update.$set[`cursors.${fieldOf(conv)}`] = seq
      bySession.set(key, update)
    }
    const all = [...bySession.values()]
    const updates = all.map(({ _id, epoch, $set }) => ({
      updateOne: { filter: { _id, epoch: { $lte: epoch }, ...isStored }, update: { $set } },
    }))
    const write = () => this.#server.bulk(this.#server.collections.sessions, updates)
    await this.#queue.run(
      all.map(({ _id }) => _id),
      () => this.#server.run(write),
    )
  }

  async touch(named: readonly { user: string; device: string }[], seenTs: number): Promise<void> {
    if (named.length === 0) return
    const ids = named.map(({ user, device }) => pairId(user, device))
    const updates = ids.map((_id) => ({ updateOne: { filter: { _id, ...isStored }, update: { $set: { seenTs } } } }))
    const write = () => this.#server.bulk(this.#server.collections.sessions, updates)
    await this.#queue.run(ids, () => this.#server.run(write))
  }

  async remove(user: string, device: string, epoch = Number.MAX_SAFE_INTEGER): Promise<void> {
    const { sessions } = this.#server.collections
    const _id = pairId(user, device)
    const update = { $unset: { createdTs: '', seenTs: '', cursors: '' }, $set: { endedAt: new Date() } } as const
    await this.#queue.run([_id], async () => {
      const { matchedCount } = await this.#server.run(() => sessions.updateOne({ _id, epoch: { $lte: epoch } }, update))
      if (matchedCount > 0) await this.#forgetRetransmits(user, device, epoch)
    })
  }

  /** A later connect may have sent while this one was on its way. */
  async #forgetRetransmits(user: string, device: string, epoch: number): Promise<void> {
    const old = { session: `${user}/${device}`, last: { $lt: behindEpoch(epoch) } }
    await this.#server.run(() => this.#server.collections.retransmits.deleteMany(old))
  }
}

/** undefined: the device has an epoch and no stored session. */
function recordOf({ user, device, epoch, createdTs, seenTs }: SessionDocument): SessionRecord | undefined {
  return createdTs === undefined || seenTs === undefined ? undefined : { user, device, createdTs, seenTs, epoch }
}
