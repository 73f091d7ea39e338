/** The calls about groups: names, members, and changes of both. Each rejects with a CallError that can be shown. */
import { CallError, type Connection } from './connection.js'
import { type Address, type GroupMember, groupAddress, idOf, randomName } from './protocol.js'
import type { Store } from './store.js'

export interface GroupCalls {
  create(name: string, members: readonly string[]): Promise<Address>
  members(conv: Address): Promise<GroupMember[]>
  add(conv: Address, users: readonly string[]): Promise<void>
  remove(conv: Address, user: string): Promise<void>
  leave(conv: Address): Promise<void>
  /** Fetches the names that are missing, a few at a time. */
  loadNames(): Promise<void>
}

const parallelMax = 8
const slugLengthMax = 40

/** Chosen here, so that a call that is repeated after a lost answer cannot make a second group. */
function groupIdFor(name: string): string {
  const slug = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, slugLengthMax)
  return `${slug === '' ? 'group' : slug}-${randomName(5)}`
}

export function createGroupCalls(connection: Connection, store: Store): GroupCalls {
  let isLoading = false
  const loadName = async (conv: Address): Promise<void> => {
    const conversation = store.ensure(conv)
    try {
      const { name } = await connection.call<{ name: string }>('group.get', { group: idOf(conv) })
      conversation.name = name
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      if (error.code === 'forbidden' || error.code === 'not_found') conversation.isMember = false
      else throw error
    }
    store.changed()
  }
  return {
    async create(name, members) {
      const { group } = await connection.call<{ group: string }>('group.create', { group: groupIdFor(name), name, members: [...members] })
      return groupAddress(group)
    },
    async members(conv) {
      const { members } = await connection.call<{ members: GroupMember[] }>('group.members', { group: idOf(conv) })
      return members
    },
    add: async (conv, users) => void (await connection.call('group.add', { group: idOf(conv), users: [...users] })),
    remove: async (conv, user) => void (await connection.call('group.remove', { group: idOf(conv), users: [user] })),
    leave: async (conv) => void (await connection.call('group.leave', { group: idOf(conv) })),
    async loadNames() {
      if (isLoading) return
      isLoading = true
      try {
        for (let batch = store.nameless.slice(0, parallelMax); batch.length > 0; batch = store.nameless.slice(0, parallelMax))
          await Promise.all(batch.map(({ conv }) => loadName(conv)))
      } catch (error) {
        // The id stands in for the name until the next connect.
        if (!(error instanceof CallError)) throw error
      } finally {
        isLoading = false
      }
    },
  }
}
