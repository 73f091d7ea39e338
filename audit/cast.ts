/**
 * Who takes part: users with one to three devices, their friends, and groups from a handful up to 500 members. All of it
 * follows from the number of users, so that a seed repeats a run. Some users come and go in groups (churners), some are in none and
 * try to get in all the time (outsiders).
 */
import type { ClientOptions } from './client.js'

export interface Group {
  group: string
  /** Never leaves, so that the whole log can be read by one. */
  owner: string
  members: string[]
  /** Members come and go. */
  isRestless: boolean
}

export interface Device extends Pick<ClientOptions, 'user' | 'device' | 'clean' | 'transport' | 'keepaliveSeconds'> {}

export interface Cast {
  users: string[]
  churners: string[]
  outsiders: string[]
  devices: Device[]
  groups: Group[]
  friendsOf(user: string): readonly string[]
  /** Who blocks whom from before the run to its end. */
  standingBlocks: readonly (readonly [user: string, peer: string])[]
}

const groupMembersMax = 500
/** Users of the fuzzer, who speak of each other only. */
export const fuzzUsers: readonly string[] = ['fuzz0', 'fuzz1', 'fuzz2']
export const isFuzzUser = (user: string): boolean => fuzzUsers.includes(user)
const restlessGroups = 4
const friendSteps = [1, 7, 31]

/** `users` counts the members of the cast, at least 8; the outsiders come on top. */
export function createCast(count: number): Cast {
  const users = Array.from({ length: count }, (_, n) => `a${n}`)
  const churners = users.filter((_, n) => n % 10 === 3)
  const outsiders = ['x0', 'x1']
  const friends = new Map(users.map((user, n) => [user, friendsAt(users, n)]))
  return {
    users,
    churners,
    outsiders,
    devices: [...users.flatMap(devicesOf), ...outsiders.flatMap((user) => devicesOf(user, 0))],
    groups: createGroups(users, new Set(churners)),
    friendsOf: (user) => friends.get(user) ?? [],
    standingBlocks: users.flatMap((user, n) => (n % 12 === 5 ? [[user, friends.get(user)?.[0] as string] as const] : [])),
  }
}

function friendsAt(users: readonly string[], n: number): string[] {
  const steps = friendSteps.filter((step) => step < users.length / 2)
  return [...new Set(steps.flatMap((step) => [at(users, n + step), at(users, n - step)]))].filter((user) => user !== users[n])
}

const at = (users: readonly string[], n: number): string => users[(n + users.length) % users.length] as string

function devicesOf(user: string, n: number): Device[] {
  const phone: Device = {
    user,
    device: 'phone',
    clean: n % 5 === 4,
    transport: n % 3 === 2 ? 'ws' : 'tcp',
    keepaliveSeconds: n % 6 === 1 ? 5 : 0,
  }
  const others: Device[] = []
  if (n % 4 === 0) others.push({ user, device: 'web', clean: true, transport: 'ws', keepaliveSeconds: 0 })
  if (n % 7 === 0) others.push({ user, device: 'tab', clean: false, transport: 'tcp', keepaliveSeconds: 0 })
  return [phone, ...others]
}

/** One of all, two of fifty, and small ones. */
function createGroups(users: readonly string[], churners: ReadonlySet<string>): Group[] {
  const sizes = [
    Math.min(groupMembersMax, users.length),
    Math.min(50, Math.ceil(users.length / 2)),
    Math.min(50, Math.ceil(users.length / 2)),
    ...Array.from({ length: Math.ceil(users.length / 8) }, (_, n) => 4 + (n % 9)),
  ]
  let next = 0
  return sizes.map((size, number) => {
    const isRestless = number < restlessGroups
    const members = Array.from({ length: Math.min(size, users.length) }, () => users[next++ % users.length] as string)
    // A group of all begins with the first user; the owner must stay.
    const owner = members.find((user) => !churners.has(user)) ?? (users[0] as string)
    const initial = isRestless ? members.filter((user, place) => !churners.has(user) || (place + number) % 2 === 0) : members
    return { group: `g${number}`, owner, members: [...new Set([owner, ...initial])], isRestless }
  })
}
