/** What a store keeps beside its conversations, in the order in which it is copied. */
import type { KeyValueStore, SessionRecord, Store } from '../store/store.js'
import { createKind, type Kind } from './kind.js'

/** Records of the migration itself, which are not copied. */
export const ownPrefix = 'migration/'

interface Session {
  record: SessionRecord
  cursors: [conv: string, seq: number][]
}

const users = createKind({
  name: 'users',
  list: ({ directory }) => directory.users(),
  keyOf: ({ user }) => user,
  put: ({ directory }, record) => directory.putUser(record),
})

const sessions = createKind<Session>({
  name: 'sessions',
  async *list({ sessions }) {
    for await (const record of sessions.all()) yield { record, cursors: [...(await sessions.cursors(record.user, record.device))].sort() }
  },
  keyOf: ({ record }) => `${record.user} ${record.device}`,
  async put({ sessions }, { record, cursors }, before) {
    const { user, device, epoch, createdTs, seenTs } = record
    const isKnown = before?.record.createdTs === createdTs && cursors.length > 0
    if (!isKnown) return sessions.create(record, new Map(cursors))
    // To create it anew would forget what it may send again.
    const moved = cursors.map(([conv, seq]) => ({ user, device, epoch, conv, seq }))
    return sessions.saveCursors(moved, seenTs)
  },
  remove: ({ sessions }, { record }) => sessions.remove(record.user, record.device),
})

const keyValues = (name: string, of: (store: Store) => KeyValueStore): Kind =>
  createKind({
    name,
    async *list(store) {
      for await (const pair of of(store).entries('')) if (!pair.key.startsWith(ownPrefix)) yield pair
    },
    keyOf: ({ key }) => key,
    put: (store, { key, value }) => of(store).put(key, value),
    remove: (store, { key }) => of(store).remove(key),
  })

/** Sessions before conversations: to make a session forgets the packet ids that come with those. */
export const kinds: readonly Kind[] = [
  users,
  sessions,
  keyValues('records', ({ records }) => records),
  keyValues('application topics', ({ openTopics }) => openTopics),
]
