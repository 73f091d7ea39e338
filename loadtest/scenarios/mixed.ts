/**
 * Scenario `mixed`: users with friends and groups, a few of them busy and most of them quiet. Every user is a persistent session,
 * since sessions leave and come back. The same seed gives the same people.
 */
import { streamsMax } from '../stamp.js'
import type { ClientPlan, Echo, GroupPlan, Plan } from './plan.js'
import { createRandom } from './random.js'

export interface MixedShape {
  /** Users with whom each has a direct conversation, on average. */
  friends: number
  groups: number
  /** Members of the largest group; the others are smaller. */
  groupSize: number
  /** Share of the messages that go to groups, 0…1. */
  groupShare: number
  /** The user of rank r is (r + 1) ** -skew times as busy as the busiest; 0 makes all alike. */
  skew: number
  readsPerSecond: number
  callsPerSecond: number
  typingPerSecond: number
  /** Recalls, edits and reactions. */
  actsPerSecond: number
  /** Sessions that leave, each second; each comes back after `awayMs`. */
  leavesPerSecond: number
  awayMs: number
  seed: number
}

const groupSizeMin = 3
/** One user in so many wants to know who is writing in his groups. */
const typingGroupsEvery = 4

class People {
  readonly clients: ClientPlan[]
  readonly groups: GroupPlan[] = []
  /** Conversation of each stream as those see it who receive. */
  readonly #heardIn: string[] = []

  constructor(
    readonly prefix: string,
    count: number,
    skew: number,
  ) {
    this.clients = Array.from({ length: count }, (_, index): ClientPlan => {
      const user = this.name(index)
      return {
        user,
        share: index,
        sends: [],
        hears: [],
        convOf: (stream) => this.#heardIn[stream] ?? '',
        inboxes: [`u/${user}/msg`],
        ...(index % typingGroupsEvery === 0 ? { optIn: ['g/+/typing'] } : {}),
        weight: (index + 1) ** -skew,
        role: 'online',
      }
    })
  }

  befriend(a: number, b: number): void {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const number = this.#stream(`u/${this.name(to)}/msg`, from, `u/${this.name(from)}`)
      this.clients[to]?.hears.push(number)
    }
  }

  group(members: number[], echo: Echo): void {
    const id = `${this.prefix}-team-${this.groups.length}`
    const topic = `g/${id}/msg`
    for (const member of members) {
      const number = this.#stream(topic, member, `g/${id}`)
      for (const other of members) if (echo === 'echo' || other !== member) this.clients[other]?.hears.push(number)
      this.clients[member]?.inboxes.push(topic)
    }
    const [owner = '', ...others] = members.map((member) => this.name(member))
    this.groups.push({ id, owner, members: others })
  }

  name(index: number): string {
    return `${this.prefix}-${index}`
  }

  #stream(topic: string, sender: number, heardIn: string): number {
    const number = this.#heardIn.push(heardIn) - 1
    if (number >= streamsMax)
      throw new Error(`a mixed load of more than ${streamsMax} streams: take fewer --clients, --friends or --groups`)
    this.clients[sender]?.sends.push({ topic, number })
    return number
  }
}

export function planMixed(clients: number, shape: MixedShape, prefix: string, echo: Echo): Plan {
  const random = createRandom(shape.seed)
  const people = new People(prefix, clients, shape.skew)
  const any = (): number => Math.floor(random() * clients)
  const known = new Set<string>()
  const friendships = Math.min(Math.ceil((clients * shape.friends) / 2), (clients * (clients - 1)) / 2)
  for (let tries = 0; known.size < friendships && tries < friendships * 20; tries++) {
    // In turn, so that everybody has a friend; the other one by chance.
    const [a, b] = [tries % clients, any()]
    const pair = a < b ? `${a} ${b}` : `${b} ${a}`
    if (a === b || known.has(pair)) continue
    known.add(pair)
    people.befriend(a, b)
  }
  for (let group = 0; group < shape.groups; group++) {
    const size = Math.min(clients, Math.max(groupSizeMin, Math.round(shape.groupSize / Math.sqrt(group + 1))))
    const members = new Set<number>()
    while (members.size < size) members.add(any())
    people.group([...members], echo)
  }
  return { clients: people.clients, groups: people.groups }
}
