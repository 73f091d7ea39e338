/**
 * Holds what Aedes would deliver to a returning session until its connect is complete: with a persistence that answers later, live
 * messages would reach it before its CONNACK, and before those that have waited for it. Bounded; past the limit the
 * connection is closed and everything of QoS 1 and 2 stays in the queue.
 */
import type { Client } from 'aedes'

type Deliver = (packet: object, done: () => void) => void

interface Delivering {
  deliver0: Deliver
  deliverQoS: Deliver
}

const heldMax = 1_000

export class HeldDeliveries {
  readonly #held = new WeakMap<Client, (() => void)[]>()

  /** Before Aedes restores its subscriptions. */
  hold(client: Client): void {
    const inner = client as unknown as Delivering
    this.#held.set(client, [])
    for (const name of ['deliver0', 'deliverQoS'] as const) {
      const deliver = inner[name]
      inner[name] = (packet, done) => {
        const held = this.#held.get(client)
        if (held === undefined) return deliver(packet, done)
        if (client.closed || held.length >= heldMax) {
          client.close()
          return done()
        }
        held.push(() => deliver(packet, done))
      }
    }
  }

  /** The connect is complete. All go in this turn, in which Aedes writes nothing yet: one that comes in the next would overtake them. */
  release(client: Client): void {
    const held = this.#held.get(client) ?? []
    this.#held.delete(client)
    for (const deliver of held) deliver()
  }
}
