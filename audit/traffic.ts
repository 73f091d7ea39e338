/**
 * What people say: messages at a given rate over direct chats and groups of all sizes, from a client chosen by chance, most
 * of them short, some with a few kB, one in six as plain text without an id. Some recall, edit or react to what was said before, and
 * beside it people say what they have read and that they are writing. Open loop, but nobody piles up more than he could send again.
 */
import type { Address } from '../broker/topics.js'
import type { Cast, Group } from './cast.js'
import type { VirtualClient } from './client.js'
import { pick, type Random } from './random.js'

export interface Traffic {
  stop(): void
  /** The same message from all devices of a user who has several; returns him. */
  sendFromAllDevices(): string
}

export interface TrafficOptions {
  cast: Cast
  clients: readonly VirtualClient[]
  random: Random
  perSecond: number
}

const acts = ['recall', 'edit', 'reaction'] as const
const turnMs = 10
const unsettledMax = 200
const longBytesMax = 4_000

export function startTraffic({ cast, clients, random, perSecond }: TrafficOptions): Traffic {
  const groupsOf = new Map<string, Group[]>()
  for (const group of cast.groups) for (const user of group.members) groupsOf.set(user, [...(groupsOf.get(user) ?? []), group])
  const outsiders = new Set(cast.outsiders)
  const [outer, inner] = [
    clients.filter(({ options }) => outsiders.has(options.user)),
    clients.filter(({ options }) => !outsiders.has(options.user)),
  ]
  const several = cast.users.map((user) => inner.filter(({ options }) => options.user === user)).filter((own) => own.length > 1)
  let names = 0
  const newName = (): string => `m${(++names).toString(36)}`

  const groupFor = (user: string): Group | undefined => {
    const groups = groupsOf.get(user) ?? []
    const [small, large] = [groups.filter(({ members }) => members.length <= 12), groups.filter(({ members }) => members.length > 12)]
    const chance = random(100)
    if (chance < 55) return undefined
    if (chance < 85 && small.length > 0) return pick(random, small)
    const middle = large.filter(({ members }) => members.length <= 50)
    if (chance < 98 && middle.length > 0) return pick(random, middle)
    return chance < 98 || large.length === 0 ? undefined : pick(random, large)
  }
  const addressFor = (user: string): Address => {
    if (outsiders.has(user)) return `g/${pick(random, cast.groups).group}`
    const group = groupFor(user)
    return group === undefined ? `u/${pick(random, cast.friendsOf(user))}` : `g/${group.group}`
  }
  const sendOne = (): void => {
    const client = random(60) === 0 && outer.length > 0 ? pick(random, outer) : pick(random, inner)
    if (client.unsettled >= unsettledMax) return
    const name = newName()
    if (random(3) === 0) pick(random, inner).read()
    if (random(12) === 0) client.type(addressFor(client.options.user))
    // Half of them speak of what is not theirs, which is refused unless it is a reaction.
    if (random(12) === 0 && client.act(pick(random, acts), pick(random, ['own', 'others']), name)) return
    const bytes = random(20) === 0 ? random(longBytesMax) : random(60)
    client.send(addressFor(client.options.user), name, random(6) === 0 ? undefined : name, bytes)
  }

  const startedMs = performance.now()
  let due = 0
  const timer = setInterval(() => {
    const target = ((performance.now() - startedMs) * perSecond) / 1_000
    // After a pause of the audit itself nothing is made up for.
    due = Math.max(due, target - perSecond)
    for (; due < target; due++) sendOne()
  }, turnMs)
  return {
    stop: () => clearInterval(timer),
    sendFromAllDevices() {
      const own = pick(random, several)
      const { user } = (own[0] as VirtualClient).options
      const [address, name] = [addressFor(user), newName()]
      for (const client of own) client.send(address, name, name, 0)
      return user
    },
  }
}
