/**
 * The way to the live sessions of a user beside the log: an event or a signal reaches each of them once, on whatever node it is, in the order
 * in which this node sent it. Nothing is kept: who is away, or on a node that the bus cannot reach, gets it never. What must not be lost
 * is in the store.
 */
import type { Bus } from './bus.js'
import type { Hub } from './hub.js'
import type { Logger } from './logger.js'
import { eventTopic } from './topics.js'

/** Everybody's sessions but that of one device, which knows already. */
export interface Except {
  device: string
}

export interface Event {
  type: string
  [field: string]: unknown
}

/** What travels on the bus: user, device that is left out or '', topic, payload, QoS, and of positions which fields they are and how often they are told. */
type Wire = [user: string, except: string, topic: string, payload: string, qos: 0 | 1, positions?: string[], everyMs?: number]

export interface Positions {
  /** The numbers that only move forwards. */
  fields: readonly string[]
  /** A session is told of the same ones once in so many ms, whatever number of nodes tells of them; at once by default. */
  everyMs?: number
}

/** Of one user, and of what the positions are of. */
interface Told {
  positions: number[]
  /** When the sessions were told last, monotonic. */
  ms: number
  /** What they are told when that may be; undefined: nothing new since. */
  due: Wire | undefined
}

const kind = 'signal'
/** Positions that were told here; the oldest are forgotten. */
const toldMax = 50_000

export class Signals {
  readonly #hub: Hub
  readonly #bus: Bus
  readonly #told = new Map<string, Told>()

  constructor(hub: Hub, bus: Bus, logger: Logger) {
    this.#hub = hub
    this.#bus = bus
    bus.on(kind, (message, node) => {
      const wire = parseWire(message)
      if (wire === undefined) logger.warn({ node }, 'a signal of another node cannot be read')
      else this.#deliver(wire)
    })
  }

  /** On u/{user}/event, QoS 1, never repeated. */
  sendEvent(user: string, event: Event, except?: Except): void {
    this.#send([user, except?.device ?? '', eventTopic(user), JSON.stringify(event), 1])
  }

  /**
   * As `sendEvent`, of positions that only move forwards. Two nodes that tell of the same ones may know different things of them, and are
   * heard in any order; what a session is told never goes back, and what says nothing new is left out.
   */
  sendPositions(user: string, event: Event, { fields, everyMs = 0 }: Positions, except?: Except): void {
    this.#send([user, except?.device ?? '', eventTopic(user), JSON.stringify(event), 1, [...fields], everyMs])
  }

  /** QoS 0: dropped where a socket does not take it at once. */
  sendSignal(user: string, topic: string, payload: string, except?: Except): void {
    this.#send([user, except?.device ?? '', topic, payload, 0])
  }

  #send(wire: Wire): void {
    this.#deliver(wire)
    this.#bus.publish(kind, Buffer.from(JSON.stringify(wire)))
  }

  #deliver(wire: Wire): void {
    const [user, , , , , positions, everyMs = 0] = wire
    if (this.#hub.sessionsOf(user).length === 0) return
    if (positions === undefined) this.#hand(wire)
    else this.#handForwards(wire, positions, everyMs)
  }

  #hand([user, except, topic, payload, qos]: Wire): void {
    for (const session of this.#hub.sessionsOf(user)) {
      if (session.device === except) continue
      if (qos === 1) session.sendControl(topic, payload)
      else session.sendSignal(topic, payload)
    }
  }

  /** With the furthest positions that are known here; nothing when all of them have been told. */
  #handForwards([user, except, topic, payload, qos]: Wire, fields: readonly string[], everyMs: number): void {
    const event = JSON.parse(payload) as Record<string, unknown>
    const rest = Object.entries(event).filter(([name]) => !fields.includes(name))
    const key = JSON.stringify([user, rest])
    const told = this.#told.get(key)
    const positions = fields.map((name, at) => Math.max(Number(event[name]), told?.positions[at] ?? 0))
    if (told?.positions.every((position, at) => position === positions[at])) return
    for (const [at, name] of fields.entries()) event[name] = positions[at]
    const wire: Wire = [user, except, topic, JSON.stringify(event), qos]
    const nowMs = performance.now()
    if (told?.due !== undefined) {
      told.positions = positions
      told.due = wire
      return
    }
    const waitMs = told === undefined ? 0 : told.ms + everyMs - nowMs
    const next: Told = { positions, ms: waitMs > 0 && told !== undefined ? told.ms : nowMs, due: waitMs > 0 ? wire : undefined }
    this.#told.delete(key)
    this.#told.set(key, next)
    if (this.#told.size > toldMax) this.#told.delete(this.#told.keys().next().value as string)
    if (next.due === undefined) this.#hand(wire)
    else setTimeout(() => this.#handDue(next), waitMs).unref()
  }

  #handDue(told: Told): void {
    const { due } = told
    told.due = undefined
    told.ms = performance.now()
    if (due !== undefined) this.#hand(due)
  }
}

function parseWire(message: Buffer): Wire | undefined {
  try {
    const wire = JSON.parse(message.toString()) as unknown
    if (!Array.isArray(wire)) return undefined
    const [user, except, topic, payload, qos, positions = [], everyMs = 0] = wire as unknown[]
    if (!Array.isArray(positions) || typeof everyMs !== 'number') return undefined
    const isText = [user, except, topic, payload, ...(positions as unknown[])].every((part) => typeof part === 'string')
    return isText && (qos === 0 || qos === 1) ? (wire as Wire) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
