/**
 * What the nodes of a cluster tell each other beside the log. Everything on the bus is a hint: a message may be lost when a
 * connection breaks, so whatever must not be lost is in the store, and its reader finds out by itself that he missed it.
 */

export type BusHandler = (message: Buffer, node: string) => void

export interface Bus {
  /** The name of this node: its own, and new at each start. */
  readonly node: string
  /** False while other nodes cannot be heard or told. */
  readonly isUp: boolean
  /** To every other node, never to this one. Waits for nothing and does not throw. `kind` names who handles it there. */
  publish(kind: string, message: Buffer): void
  /** One handler for each kind; what it throws is logged and stops nothing. The messages of one node arrive in the order in which it published them. */
  on(kind: string, handler: BusHandler): void
  /** Called, of all who ask for it, when something that was told may not have been heard here, and from now on can be. Must not throw. */
  onMissed(handler: () => void): void
  /** Resolves when all that other nodes had told before this call has been handled here; rejects when that cannot be known. */
  caughtUp(): Promise<void>
  close(): void
}

/** The bus of a server without other nodes. */
export class LocalBus implements Bus {
  readonly isUp = true
  readonly #kinds = new Set<string>()

  constructor(readonly node: string) {}

  publish(_kind: string, _message: Buffer): void {
    // There is nobody else.
  }

  on(kind: string, _handler: BusHandler): void {
    if (this.#kinds.has(kind)) throw new Error(`${kind} has a handler`)
    this.#kinds.add(kind)
  }

  onMissed(_handler: () => void): void {
    // There is nobody to miss.
  }

  async caughtUp(): Promise<void> {
    // There is nobody to hear.
  }

  close(): void {
    // Nothing is open.
  }
}
