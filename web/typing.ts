/** Who is writing where: what others say of themselves, which ends by itself, and what is said of me, no oftener than it must be. */
import type { Address, TypingSignal } from './protocol.js'

/** The server ends it after 6 s; this is for an end that was lost on the way. */
const lastsMs = 8_000
const repeatMs = 3_000

export class Writers {
  readonly #ends = new Map<Address, Map<string, number>>()

  constructor(readonly changed: () => void) {}

  heard(conv: Address, { from, on }: TypingSignal): void {
    const writers = this.#ends.get(conv) ?? new Map<string, number>()
    clearTimeout(writers.get(from))
    if (on)
      writers.set(
        from,
        setTimeout(() => this.heard(conv, { from, on: false }), lastsMs),
      )
    else writers.delete(from)
    if (writers.size > 0) this.#ends.set(conv, writers)
    else this.#ends.delete(conv)
    this.changed()
  }

  /** Nothing is known any more. */
  clear(): void {
    for (const writers of this.#ends.values()) for (const timer of writers.values()) clearTimeout(timer)
    this.#ends.clear()
    this.changed()
  }

  in(conv: Address): string[] {
    return [...(this.#ends.get(conv)?.keys() ?? [])]
  }
}

/** What the draft says of me. `say` tells the others. */
export class OwnTyping {
  #conv: Address | undefined
  #saidMs = 0

  constructor(readonly say: (conv: Address, on: boolean) => void) {}

  writes(conv: Address): void {
    if (this.#conv !== conv) this.stops()
    else if (performance.now() - this.#saidMs < repeatMs) return
    this.#conv = conv
    this.#saidMs = performance.now()
    this.say(conv, true)
  }

  stops(): void {
    if (this.#conv !== undefined) this.say(this.#conv, false)
    this.#conv = undefined
  }
}

const namesMax = 2

/** `bob is writing …`; empty when nobody is. In a direct chat it is plain who. */
export function writingLine(users: readonly string[], isGroup: boolean): string {
  if (users.length === 0) return ''
  if (!isGroup) return 'writing …'
  if (users.length > namesMax) return `${users.length} people are writing …`
  return `${users.join(' and ')} ${users.length === 1 ? 'is' : 'are'} writing …`
}
