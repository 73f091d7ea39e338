/** What each connection shows of whom it watches at the moment, kept from the events of a run as they are written. */
import type { Event } from './history.js'

interface Open {
  user: string
  /** By user; who was told nothing yet may have been refused. */
  shown: Map<string, 'online' | 'offline'>
}

export class PresenceBoard {
  readonly #users = new Map<number, string>()
  readonly #open = new Map<number, Open>()

  note(event: Event): void {
    if (event.event === 'client') this.#users.set(event.client, event.user)
    else if (event.event === 'up') this.#open.set(event.connection, { user: this.#users.get(event.client) ?? '', shown: new Map() })
    else if (event.event === 'down') this.#open.delete(event.connection)
    else if (event.event === 'presence') this.#open.get(event.connection)?.shown.set(event.user, event.status)
  }

  /** Pairs of a connection and a connected user whom it shows offline; those apart of whom `isExcused` holds. */
  wrong(isExcused: (watcher: string, user: string) => boolean): number {
    const connected = new Set([...this.#open.values()].map(({ user }) => user))
    let count = 0
    for (const { user, shown } of this.#open.values())
      for (const [other, status] of shown) if (status === 'offline' && connected.has(other) && !isExcused(user, other)) count++
    return count
  }
}
