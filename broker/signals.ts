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

/** What travels on the bus: user, device that is left out or '', topic, payload, QoS, and of positions which fields they are. */
type Wire = [user: string, except: string, topic: string, payload: string, qos: 0 | 1, positions?: string[]]

const kind = 'signal'
/** Positions that were told here; the oldest are forgotten. */
const toldMax = 50_000

export class Signals {
  readonly #hub: Hub
  readonly #bus: Bus
  /** By user and by what the positions are of. */
  readonly #told = new Map<string, number[]>()

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
   * As `sendEvent`, of positions that only move forwards: the numbers of these fields. Two nodes that tell of the same position may know
   * different things of it, and are heard in any order; what a session is told never goes back, and what says nothing new is left out.
   */
  sendPositions(user: string, event: Event, fields: readonly string[], except?: Except): void {
    this.#send([user, except?.device ?? '', eventTopic(user), JSON.stringify(event), 1, [...fields]])
  }

  /** QoS 0: dropped where a socket does not take it at once. */
  sendSignal(user: string, topic: string, payload: string, except?: Except): void {
    this.#send([user, except?.device ?? '', topic, payload, 0])
  }

  #send(wire: Wire): void {
    this.#deliver(wire)
    this.#bus.publish(kind, Buffer.from(JSON.stringify(wire)))
  }

  #deliver([user, except, topic, payload, qos, positions]: Wire): void {
    const sessions = this.#hub.sessionsOf(user)
    if (sessions.length === 0) return
    const forwards = positions === undefined ? payload : this.#forwards(user, payload, positions)
    if (forwards === undefined) return
    for (const session of sessions) {
      if (session.device === except) continue
      if (qos === 1) session.sendControl(topic, forwards)
      else session.sendSignal(topic, forwards)
    }
  }

  /** The payload with the furthest positions that are known here; undefined when all of them have been told. */
  #forwards(user: string, payload: string, fields: readonly string[]): string | undefined {
    const event = JSON.parse(payload) as Record<string, unknown>
    const rest = Object.entries(event).filter(([name]) => !fields.includes(name))
    const key = JSON.stringify([user, rest])
    const told = this.#told.get(key)
    const positions = fields.map((name, at) => Math.max(Number(event[name]), told?.[at] ?? 0))
    if (told?.every((position, at) => position === positions[at])) return undefined
    this.#told.delete(key)
    this.#told.set(key, positions)
    if (this.#told.size > toldMax) this.#told.delete(this.#told.keys().next().value as string)
    for (const [at, name] of fields.entries()) event[name] = positions[at]
    return JSON.stringify(event)
  }
}

function parseWire(message: Buffer): Wire | undefined {
  try {
    const wire = JSON.parse(message.toString()) as unknown
    if (!Array.isArray(wire)) return undefined
    const [user, except, topic, payload, qos, positions = []] = wire as unknown[]
    if (!Array.isArray(positions)) return undefined
    const isText = [user, except, topic, payload, ...(positions as unknown[])].every((part) => typeof part === 'string')
    return isText && (qos === 0 || qos === 1) ? (wire as Wire) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
