/**
 * Persistent sessions on MongoDB: of each device one document with its last epoch and, while it has a stored session, its cursors. Every
 * write names the epoch in its filter, so one that comes late finds no document and makes none. Writes of this node to one session
 * keep their order. The document of a device without a stored session goes after 30 days.
 */

import { randomInt } from 'node:crypto'
import { InTurn } from '../../in-turn.js'
import type { ConversationId } from '../../topics.js'
import type { MovedCursor, SessionRecord, SessionStore } from '../store.js'
import { fieldOf, groupedByUser, nameOf, pairId, type SessionDocument } from './collections.js'
import { behindEpoch } from './last-sends.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'
import { Together } from './together.js'

/** By chance: of two updates of one document at the same moment FerretDB 1 loses one, and two sessions of one epoch would both stay. */
const epochStepMax = 2 ** 16

const withoutCursors = { projection: { cursors: 0 } }
const isStored = { createdTs: { $exists: true } }

interface Creation {
  _id: string
  record: SessionRecord
  cursors: ReadonlyMap<ConversationId, number>
}

export class MongodbSessionStore implements SessionStore {
  readonly #server: MongodbServer
  readonly #queue = new InTurn()

  /** Connects ask for these, many at the same moment. */
  readonly #newDevices: Together<SessionDocument, boolean>
  readonly #known: Together<string, SessionDocument | undefined>
  readonly #lists: Together<string, SessionDocument[]>
  readonly #creations: Together<Creation, void>

  constructor(server: MongodbServer) {
    this.#server = server
    const { sessions } = server.collections
    this.#newDevices = new Together(async (documents) => {
      const refused = new Set(await server.insertNew(sessions, documents))
      return documents.map((_, index) => !refused.has(index))
    })
    this.#known = new Together(async (ids) => {
      const found = await server.findNamed(sessions, [...new Set(ids)])
      return ids.map((id) => found.get(id))
    })
    this.#lists = new Together(async (users) => {
      const filter = { user: { $in: [...new Set(users)] }, ...isStored }
      const found = groupedByUser(await server.run(() => sessions.find(filter, withoutCursors).toArray()))
      return users.map((user) => found.get(user) ?? [])
    })
    this.#creations = new Together(async (creations) => {
      await this.#create(creations)
      return creations.map(() => undefined)
    })
  }

  open(user: string, device: string): Promise<{ epoch: number; stored: SessionRecord | undefined }> {
    const { sessions } = this.#server.collections
    const _id = pairId(user, device)
    return this.#queue.run([_id], async () => {
      // Who comes for the first time is told by his document being the one that was made.
      let mayBeNew = (await this.#known.ask(_id)) === undefined
      for (;;) {
        // The time: higher than all that were counted before an earlier document of this name went.
        const first = { _id, user, device, epoch: Date.now(), endedAt: new Date() }
        if (mayBeNew && (await this.#newDevices.ask(first))) return { epoch: first.epoch, stored: undefined }
        // With its cursors: FerretDB cannot leave them out.
        const update = { $inc: { epoch: randomInt(1, epochStepMax) } }
        const found = await this.#server.run(() => sessions.findOneAndUpdate({ _id }, update, { returnDocument: 'after' }))
        if (found !== null) return { epoch: found.epoch, stored: recordOf(found) }
        mayBeNew = true
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
    const found = await this.#lists.ask(user)
    return found.map(recordOf).filter((record) => record !== undefined)
  }

  async *all(seenBeforeTs?: number): AsyncIterable<SessionRecord> {
    const only = seenBeforeTs === undefined ? isStored : { ...isStored, seenTs: { $lt: seenBeforeTs } }
    for await (const document of inOrder(this.#server, this.#server.collections.sessions, { cursors: 0 }, '', only)) {
      const record = recordOf(document)
      if (record !== undefined) yield record
    }
  }

  async create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void> {
    const _id = pairId(record.user, record.device)
    await this.#queue.run([_id], () => this.#creations.ask({ _id, record, cursors }))
  }

  async #create(creations: readonly Creation[]): Promise<void> {
    const updates = creations.map(({ _id, record, cursors }) => ({
      updateOne: {
        filter: { _id, epoch: { $lte: record.epoch } },
        update: {
          $set: { ...record, cursors: Object.fromEntries([...cursors].map(([conv, seq]) => [fieldOf(conv), seq])) },
          $unset: { endedAt: '' as const },
        },
        upsert: true,
      },
    }))
    // A document with a later epoch is there and not found: to make another is refused.
    await this.#server.runUnlessThere(() => this.#server.bulk(this.#server.collections.sessions, updates))
    await this.#forgetRetransmits(creations.map(({ record }) => record))
  }

  async cursors(user: string, device: string): Promise<Map<ConversationId, number>> {
    const found = await this.#known.ask(pairId(user, device))
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
    const { sessions } = this.#server.collections
    const write = () => sessions.updateMany({ _id: { $in: ids }, ...isStored }, { $set: { seenTs } })
    await this.#queue.run(ids, () => this.#server.run(write))
  }

  async remove(user: string, device: string, epoch = Number.MAX_SAFE_INTEGER): Promise<void> {
    const { sessions } = this.#server.collections
    const _id = pairId(user, device)
    const update = { $unset: { createdTs: '', seenTs: '', cursors: '' }, $set: { endedAt: new Date() } } as const
    await this.#queue.run([_id], async () => {
      const { matchedCount } = await this.#server.run(() => sessions.updateOne({ _id, epoch: { $lte: epoch } }, update))
      if (matchedCount > 0) await this.#forgetRetransmits([{ user, device, epoch }])
    })
  }

  /** A later connect may have sent while this one was on its way. */
  async #forgetRetransmits(connects: readonly { user: string; device: string; epoch: number }[]): Promise<void> {
    const $or = connects.map(({ user, device, epoch }) => ({ session: `${user}/${device}`, last: { $lt: behindEpoch(epoch) } }))
    await this.#server.run(() => this.#server.collections.retransmits.deleteMany({ $or }))
  }
}

/** undefined: the device has an epoch and no stored session. */
function recordOf({ user, device, epoch, createdTs, seenTs }: SessionDocument): SessionRecord | undefined {
  return createdTs === undefined || seenTs === undefined ? undefined : { user, device, createdTs, seenTs, epoch }
}
