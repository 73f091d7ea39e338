/**
 * SUBSCRIBE and UNSUBSCRIBE of one connection. Filters on chat topics are answered here: a plugin decides on those that it owns, other own ones
 * are granted and change nothing, since everything is delivered unasked; foreign ones are refused. Application filters go to Aedes, without repeats, and its
 * SUBACK is completed to one code per requested filter [MQTT-3.9.3-1].
 */
import type { Connection } from './connection.js'
import { subackBytes, subscribeBytes, unsubackBytes, unsubscribeBytes } from './mqtt/encode.js'
import type { FilterRequest } from './mqtt/validate.js'
import { ownershipOf } from './own-filter.js'
import type { SubscriptionOwner } from './plugin.js'
import { isChatFilter, isTooDeep, subscriptionOf, typingGroupOf } from './topics.js'

const refused = 0x80
/** Filters that plugins are asked about, of one connection; further ones are refused until these are answered. */
const askedMax = 1_000

interface Pending {
  /** Per requested filter: its code, or the place of its filter in what Aedes was given. */
  codes: ({ code: number } | { index: number })[]
  /** To be called when it is answered. */
  granted: (() => void)[]
}

interface Owned {
  owner: SubscriptionOwner
  id: string
}

export class Subscriptions {
  readonly #connection: Connection
  readonly #pending = new Map<number, Pending>()
  readonly #open = new Set<string>()
  /** What plugins were asked for, by filter. */
  readonly #owned = new Map<string, Owned>()
  #asking = 0
  /** One SUBSCRIBE after the other, so that nobody takes more of the store than others. */
  #asked: Promise<unknown> = Promise.resolve()

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** What a persistent session has subscribed to on earlier connections: it counts towards the bound. */
  restored(filters: readonly string[]): void {
    for (const filter of filters) this.#open.add(filter)
  }

  subscribe({ packetId, filters }: { packetId: number; filters: FilterRequest[] }): void {
    const { config, plugins, logger } = this.#connection.world
    if (filters.length > config.filtersMax) {
      logger.info({ ...this.#connection.description(), filters: filters.length }, 'SUBSCRIBE with too many filters refused')
      return this.#connection.sendBytes(subackBytes(packetId, new Array(filters.length).fill(refused)))
    }
    const { caller } = this.#connection
    const forAedes = new Map<string, { index: number; qos: number }>()
    const codes: Pending['codes'] = []
    const granted: Pending['granted'] = []
    const asked: Promise<void>[] = []
    for (const { filter, qos } of filters) {
      if (isChatFilter(filter)) {
        const place = { code: refused }
        codes.push(place)
        const ownership = ownershipOf(filter, caller.user)
        const owned = this.#ownedBy(filter)
        if (owned !== undefined) {
          if (this.#asking >= askedMax) continue
          this.#asking++
          this.#owned.set(filter, owned)
          const answered = this.#asked
            .then(() => this.#ask(filter, owned))
            .then((then) => {
              if (then === undefined) return
              place.code = qos
              granted.push(then)
            })
          asked.push(answered)
        } else if (ownership === 'own') {
          place.code = qos
          this.#watchTyping(filter)
        } else if (ownership !== 'foreign') {
          asked.push(
            plugins.isMember(ownership.group, caller.user).then((isMember) => {
              if (!isMember) return
              place.code = qos
              this.#watchTyping(filter)
            }),
          )
        }
      } else if (this.#mayOpen(filter)) {
        const known = forAedes.get(filter)
        if (known !== undefined) known.qos = qos
        else forAedes.set(filter, { index: forAedes.size, qos })
        codes.push({ index: forAedes.get(filter)?.index as number })
      } else codes.push({ code: refused })
    }
    const answer = (): void => this.#forward(packetId, { codes, granted }, forAedes)
    if (asked.length === 0) return answer()
    this.#asked = Promise.allSettled(asked).then((results) => {
      for (const result of results) if (result.status === 'rejected') logger.warn({ err: result.reason }, 'a filter could not be judged')
      answer()
    })
  }

  #ownedBy(filter: string): Owned | undefined {
    const named = subscriptionOf(filter)
    if (named === undefined || this.#connection.session === undefined) return undefined
    const owner = this.#connection.world.plugins.subscriptionOwner(named.pattern)
    return owner && { owner, id: named.id }
  }

  async #ask(filter: string, owned: Owned): Promise<(() => void) | undefined> {
    const { session } = this.#connection
    try {
      if (session === undefined || !this.#owned.has(filter)) return undefined
      const then = await owned.owner.subscribe(session, owned.id)
      // UNSUBSCRIBE, or the end of the connection, came while it was asked.
      if (!this.#owned.has(filter)) owned.owner.unsubscribe(session, owned.id)
      if (then === undefined && this.#owned.get(filter) === owned) this.#owned.delete(filter)
      return then
    } finally {
      this.#asking--
    }
  }

  /** The connection has ended. */
  end(): void {
    for (const filter of this.#owned.keys()) this.#endOwned(filter)
  }

  #endOwned(filter: string): void {
    const owned = this.#owned.get(filter)
    const { session } = this.#connection
    if (owned === undefined || session === undefined) return
    this.#owned.delete(filter)
    owned.owner.unsubscribe(session, owned.id)
  }

  /** What a session hears of typing ends with its connection. */
  #watchTyping(filter: string): void {
    const group = typingGroupOf(filter)
    const { session } = this.#connection
    if (group === undefined || session === undefined) return
    session.typingGroups ??= new Set()
    if (session.typingGroups.size < this.#connection.world.config.subscriptionsMax) session.typingGroups.add(group)
  }

  #mayOpen(filter: string): boolean {
    const { config, plugins } = this.#connection.world
    if (isTooDeep(filter)) return false
    if (!this.#open.has(filter) && this.#open.size >= config.subscriptionsMax) return false
    if (!plugins.authorizeOpenSubscribe(this.#connection.caller, filter)) return false
    this.#open.add(filter)
    return true
  }

  #forward(packetId: number, pending: Pending, forAedes: ReadonlyMap<string, { qos: number }>): void {
    if (forAedes.size === 0) return this.#answer(packetId, pending, [])
    this.#pending.set(packetId, pending)
    this.#connection.giveToAedes(
      subscribeBytes(
        packetId,
        [...forAedes].map(([filter, { qos }]) => ({ filter, qos })),
      ),
    )
  }

  #answer(packetId: number, { codes, granted }: Pending, ofAedes: Buffer | readonly number[]): void {
    this.#connection.sendBytes(
      subackBytes(
        packetId,
        codes.map((place) => ('code' in place ? place.code : (ofAedes[place.index] ?? refused))),
      ),
    )
    for (const then of granted) then()
  }

  /** Aedes' SUBACK. */
  granted(suback: Buffer): void {
    const at = (suback[1] as number) < 0x80 ? 2 : 3
    const packetId = suback.readUInt16BE(at)
    const pending = this.#pending.get(packetId)
    this.#pending.delete(packetId)
    if (pending === undefined) this.#connection.sendBytes(suback)
    else this.#answer(packetId, pending, suback.subarray(at + 2))
  }

  /** Aedes hears of what it can have. */
  unsubscribe({ packetId, filters }: { packetId: number; filters: readonly string[] }): void {
    for (const filter of filters) {
      this.#open.delete(filter)
      this.#endOwned(filter)
      this.#connection.session?.typingGroups?.delete(typingGroupOf(filter) ?? '')
    }
    const forAedes = filters.filter((filter) => !isChatFilter(filter) && !isTooDeep(filter))
    if (forAedes.length === 0) this.#connection.sendBytes(unsubackBytes(packetId))
    else this.#connection.giveToAedes(unsubscribeBytes(packetId, forAedes))
  }
}
