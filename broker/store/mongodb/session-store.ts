/**
 * Persistent sessions on MongoDB, each one document with its cursors: a save that comes late finds no document and makes none.
 * Writes of this node to one session keep their order.
 */

import { InTurn } from '../../in-turn.js'
import type { ConversationId } from '../../topics.js'
import type { SessionRecord, SessionStore } from '../store.js'
import { fieldOf, nameOf, pairId, type SessionDocument } from './collections.js'
import { inOrder } from './pages.js'
import type { MongodbServer } from './server.js'

const withoutCursors = { projection: { cursors: 0 } }

export class MongodbSessionStore implements SessionStore {
  readonly #server: MongodbServer
  readonly #queue = new InTurn()

  constructor(server: MongodbServer) {
    this.#server = server
  }

  async get(user: string, device: string): Promise<SessionRecord | undefined> {
    const { sessions } = this.#server.collections
    const found = await this.#server.run(() => sessions.findOne({ _id: pairId(user, device) }, withoutCursors))
    return found === null ? undefined : recordOf(found)
  }

  async list(user: string): Promise<SessionRecord[]> {
    const { sessions } = this.#server.collections
    return (await this.#server.run(() => sessions.find({ user }, withoutCursors).toArray())).map(recordOf)
  }

  async *all(): AsyncIterable<SessionRecord> {
    for await (const document of inOrder(this.#server, this.#server.collections.sessions, { cursors: 0 })) yield recordOf(document)
  }

  async create(record: SessionRecord, cursors: ReadonlyMap<ConversationId, number>): Promise<void> {
    const { sessions, retransmits } = this.#server.collections
    const { user, device } = record
    const _id = pairId(user, device)
    const document = { ...record, cursors: Object.fromEntries([...cursors].map(([conv, seq]) => [fieldOf(conv), seq])) }
    await this.#queue.run([_id], async () => {
      await this.#server.run(() => retransmits.deleteMany({ session: `${user}/${device}` }))
      await this.#server.run(() => sessions.replaceOne({ _id }, document, { upsert: true }))
    })
  }

  async cursors(user: string, device: string): Promise<Map<ConversationId, number>> {
    const found = await this.#server.run(() => this.#server.collections.sessions.findOne({ _id: pairId(user, device) }))
    return new Map(Object.entries(found?.cursors ?? {}).map(([field, seq]) => [nameOf(field), seq]))
  }

  async saveCursors(
    cursors: readonly { user: string; device: string; conv: ConversationId; seq: number }[],
    seenTs: number,
  ): Promise<void> {
    if (cursors.length === 0) return
    const bySession = new Map<string, Record<string, number>>()
    for (const { user, device, conv, seq } of cursors) {
      const _id = pairId(user, device)
      const fields = bySession.get(_id) ?? { seenTs }
      fields[`cursors.${fieldOf(conv)}`] = seq
      bySession.set(_id, fields)
    }
    const updates = [...bySession].map(([_id, $set]) => ({ updateOne: { filter: { _id }, update: { $set } } }))
    const write = () => this.#server.collections.sessions.bulkWrite(updates, { ordered: false })
    await this.#queue.run(bySession.keys(), () => this.#server.run(write))
  }

  async touch(named: readonly { user: string; device: string }[], seenTs: number): Promise<void> {
    if (named.length === 0) return
    const ids = named.map(({ user, device }) => pairId(user, device))
    const updates = ids.map((_id) => ({ updateOne: { filter: { _id }, update: { $set: { seenTs } } } }))
    const write = () => this.#server.collections.sessions.bulkWrite(updates, { ordered: false })
    await this.#queue.run(ids, () => this.#server.run(write))
  }

  async remove(user: string, device: string): Promise<void> {
    const { sessions, retransmits } = this.#server.collections
    const _id = pairId(user, device)
    await this.#queue.run([_id], async () => {
      await this.#server.run(() => sessions.deleteOne({ _id }))
      await this.#server.run(() => retransmits.deleteMany({ session: `${user}/${device}` }))
    })
  }
}

const recordOf = ({ user, device, createdTs, seenTs }: Omit<SessionDocument, 'cursors'>): SessionRecord => ({
  user,
  device,
  createdTs,
  seenTs,
})
