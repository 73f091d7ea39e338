/** Who of those one has a chat with is there, as the server says while the connection lasts. */
import { ageOf } from './clock.js'
import { type Address, idOf, isGroup, type PresenceSignal } from './protocol.js'

/** More than are looked at, and less than the server allows. */
const watchedMax = 200

export class Presences {
  readonly #watched = new Set<string>()
  readonly #known = new Map<string, PresenceSignal>()

  /** `watch` asks the server to tell of a user. */
  constructor(
    readonly watch: (user: string) => void,
    readonly changed: () => void,
  ) {}

  /** Of a conversation in which something was written. */
  wants(conv: Address): void {
    const user = idOf(conv)
    if (isGroup(conv) || this.#watched.has(user) || this.#watched.size >= watchedMax) return
    this.#watched.add(user)
    this.watch(user)
  }

  heard(user: string, presence: PresenceSignal): void {
    this.#known.set(user, presence)
    this.changed()
  }

  /** The connection has ended, and nothing is known any more. */
  clear(): void {
    this.#watched.clear()
    this.#known.clear()
    this.changed()
  }

  of(conv: Address): PresenceSignal | undefined {
    return isGroup(conv) ? undefined : this.#known.get(idOf(conv))
  }
}

export type Dot = 'online' | 'busy' | undefined

export const dotOf = (presence: PresenceSignal | undefined): Dot =>
  presence?.status === 'online' ? (presence.busy ? 'busy' : 'online') : undefined

/** In words; empty when there is nothing to say. */
export function presenceLine(presence: PresenceSignal | undefined): string {
  const seenTs = presence?.last_seen
  return dotOf(presence) ?? (seenTs === undefined ? '' : `last seen ${ageOf(seenTs)}`)
}
