/** Buses of several nodes in one process whose messages may be lost, doubled, late and out of order, as a seeded `mood` decides. */
import type { Bus, BusHandler } from '../../broker/bus.js'

export interface Mood {
  /** How often a message arrives: 0, 1, 2 … times. */
  copies(kind: string): number
  /** When, in ms. */
  lateMs(): number
}

export const calm: Mood = { copies: () => 1, lateMs: () => 0 }

export class UnrulyBuses {
  readonly #nodes = new Map<string, Map<string, BusHandler>>()
  mood: Mood
  isUp = true

  constructor(mood: Mood) {
    this.mood = mood
  }

  bus(node: string): Bus {
    const handlers = new Map<string, BusHandler>()
    this.#nodes.set(node, handlers)
    const isUp = (): boolean => this.isUp
    return {
      node,
      get isUp() {
        return isUp()
      },
      publish: (kind, message) => this.#publish(node, kind, message),
      on: (kind, handler) => void handlers.set(kind, handler),
      onMissed: () => undefined,
      caughtUp: async () => undefined,
      close: () => undefined,
    }
  }

  /** The node hears nothing any more. */
  cut(node: string): void {
    this.#nodes.delete(node)
  }

  #publish(from: string, kind: string, message: Buffer): void {
    if (!this.#nodes.has(from)) return
    for (const [node, handlers] of this.#nodes) {
      if (node === from) continue
      for (let copy = this.mood.copies(kind); copy > 0; copy--) {
        setTimeout(() => handlers.get(kind)?.(message, from), this.mood.lateMs())
      }
    }
  }
}
