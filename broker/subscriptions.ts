/**
 * SUBSCRIBE and UNSUBSCRIBE of one connection. Filters on chat topics are answered here: own ones are granted and change nothing, since
 * everything is delivered unasked; foreign ones are refused. Application filters go to Aedes, without repeats, and its
 * SUBACK is completed to one code per requested filter [MQTT-3.9.3-1].
 */
import type { Connection } from './connection.js'
import { subackBytes, subscribeBytes, unsubackBytes, unsubscribeBytes } from './mqtt/encode.js'
import type { FilterRequest } from './mqtt/validate.js'
import { ownershipOf } from './own-filter.js'
import { isChatFilter, isTooDeep, typingGroupOf } from './topics.js'

const refused = 0x80

interface Pending {
  /** Per requested filter: its code, or the place of its filter in what Aedes was given. */
  codes: ({ code: number } | { index: number })[]
}

export class Subscriptions {
  readonly #connection: Connection
  readonly #pending = new Map<number, Pending>()
  readonly #open = new Set<string>()

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
    const asked: Promise<void>[] = []
    for (const { filter, qos } of filters) {
      if (isChatFilter(filter)) {
        const place = { code: refused }
        codes.push(place)
        const ownership = ownershipOf(filter, caller.user)
        if (ownership === 'own') {
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
    const answer = (): void => this.#forward(packetId, codes, forAedes)
    if (asked.length === 0) answer()
    else
      Promise.all(asked).then(answer, (error) => {
        logger.warn({ err: error }, 'membership could not be read for a SUBSCRIBE')
        answer()
      })
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

  #forward(packetId: number, codes: Pending['codes'], forAedes: ReadonlyMap<string, { qos: number }>): void {
    if (forAedes.size === 0) return this.#answer(packetId, codes, [])
    this.#pending.set(packetId, { codes })
    this.#connection.giveToAedes(
      subscribeBytes(
        packetId,
        [...forAedes].map(([filter, { qos }]) => ({ filter, qos })),
      ),
    )
  }

  #answer(packetId: number, codes: Pending['codes'], granted: Buffer | readonly number[]): void {
    this.#connection.sendBytes(
      subackBytes(
        packetId,
        codes.map((place) => ('code' in place ? place.code : (granted[place.index] ?? refused))),
      ),
    )
  }

  /** Aedes' SUBACK. */
  granted(suback: Buffer): void {
    const at = (suback[1] as number) < 0x80 ? 2 : 3
    const packetId = suback.readUInt16BE(at)
    const pending = this.#pending.get(packetId)
    this.#pending.delete(packetId)
    if (pending === undefined) this.#connection.sendBytes(suback)
    else this.#answer(packetId, pending.codes, suback.subarray(at + 2))
  }

  /** Aedes hears of what it can have. */
  unsubscribe({ packetId, filters }: { packetId: number; filters: readonly string[] }): void {
    for (const filter of filters) {
      this.#open.delete(filter)
      this.#connection.session?.typingGroups?.delete(typingGroupOf(filter) ?? '')
    }
    const forAedes = filters.filter((filter) => !isChatFilter(filter) && !isTooDeep(filter))
    if (forAedes.length === 0) this.#connection.sendBytes(unsubackBytes(packetId))
    else this.#connection.giveToAedes(unsubscribeBytes(packetId, forAedes))
  }
}
