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

/** What travels on the bus: user, device that is left out or '', topic, payload, QoS. */
type Wire = [user: string, except: string, topic: string, payload: string, qos: 0 | 1]

const kind = 'signal'

export class Signals {
  readonly #hub: Hub
  readonly #bus: Bus

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
  sendEvent(user: string, event: { type: string; [field: string]: unknown }, except?: Except): void {
    this.#send([user, except?.device ?? '', eventTopic(user), JSON.stringify(event), 1])
  }

  /** QoS 0: dropped where a socket does not take it at once. */
  sendSignal(user: string, topic: string, payload: string, except?: Except): void {
    this.#send([user, except?.device ?? '', topic, payload, 0])
  }

  #send(wire: Wire): void {
    this.#deliver(wire)
    this.#bus.publish(kind, Buffer.from(JSON.stringify(wire)))
  }

  #deliver([user, except, topic, payload, qos]: Wire): void {
    for (const session of this.#hub.sessionsOf(user)) {
      if (session.device === except) continue
      if (qos === 1) session.sendControl(topic, payload)
      else session.sendSignal(topic, payload)
    }
  }
}

function parseWire(message: Buffer): Wire | undefined {
  try {
    const wire = JSON.parse(message.toString()) as unknown
    if (!Array.isArray(wire) || wire.length !== 5) return undefined
    const [user, except, topic, payload, qos] = wire as unknown[]
    const isText = [user, except, topic, payload].every((part) => typeof part === 'string')
    return isText && (qos === 0 || qos === 1) ? (wire as Wire) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
