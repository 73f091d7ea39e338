/**
 * What the store keeps of people: `profiles/{user}`, `friends/{user}/{peer}` (a row on each side, the peer's written first, so
 * that repeating a call heals what a crash has halved) and `blocks/{user}/{peer}`. The only file that knows these keys.
 */
import type { KeyValueStore } from '../../broker/store/store.js'

/** As `user` sees `peer`: asked by him, asking him, or both agreed. */
export type FriendState = 'requested' | 'received' | 'friend'

export interface FriendRow {
  user: string
  state: FriendState
  ts: number
}

export interface BlockRow {
  user: string
  ts: number
}

export interface Profile {
  name?: string
  avatar_url?: string
  status?: 'available' | 'busy'
}

const friendKey = (user: string, peer: string): string => `friends/${user}/${peer}`
const blockKey = (user: string, peer: string): string => `blocks/${user}/${peer}`
const profileKey = (user: string): string => `profiles/${user}`

const encode = (record: object): Buffer => Buffer.from(JSON.stringify(record))
/** What is read was written by `encode`, under a key of that kind. */
const decode = <T>(value: Buffer | undefined): T | undefined => (value === undefined ? undefined : (JSON.parse(value.toString()) as T))

export class PeopleRecords {
  constructor(readonly records: KeyValueStore) {}

  async friend(user: string, peer: string): Promise<FriendRow | undefined> {
    return decode(await this.records.get(friendKey(user, peer)))
  }

  putFriend(user: string, row: FriendRow): Promise<void> {
    return this.records.put(friendKey(user, row.user), encode(row))
  }

  removeFriend(user: string, peer: string): Promise<void> {
    return this.records.remove(friendKey(user, peer))
  }

  friends(user: string): AsyncIterable<FriendRow> {
    return this.#rows(friendKey(user, ''))
  }

  async isBlocked(by: string, user: string): Promise<boolean> {
    return (await this.records.get(blockKey(by, user))) !== undefined
  }

  putBlock(user: string, row: BlockRow): Promise<void> {
    return this.records.put(blockKey(user, row.user), encode(row))
  }

  removeBlock(user: string, peer: string): Promise<void> {
    return this.records.remove(blockKey(user, peer))
  }

  blocks(user: string): AsyncIterable<BlockRow> {
    return this.#rows(blockKey(user, ''))
  }

  async profile(user: string): Promise<Profile> {
    return decode<Profile>(await this.records.get(profileKey(user))) ?? {}
  }

  putProfile(user: string, profile: Profile): Promise<void> {
    return this.records.put(profileKey(user), encode(profile))
  }

  removeProfile(user: string): Promise<void> {
    return this.records.remove(profileKey(user))
  }

  async *#rows<Row>(prefix: string): AsyncIterable<Row> {
    for await (const { value } of this.records.entries(prefix)) yield JSON.parse(value.toString()) as Row
  }
}
