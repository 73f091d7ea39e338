/** Keeps what is not yet acknowledged in sessionStorage, so that a reload loses nothing that was written. */
import type { Pending } from './store.js'

export interface Outbox {
  /** Writes the present state. */
  keep(): void
}

const pendingMax = 100

/** Fills `pending` with what an earlier page of this tab left behind. */
export function createOutbox(user: string, pending: Map<string, Pending>): Outbox {
  const key = `parley.outbox.${user}`
  for (const left of JSON.parse(sessionStorage.getItem(key) ?? '[]') as Pending[]) pending.set(left.id, left)
  return {
    keep() {
      const kept = [...pending.values()].slice(-pendingMax)
      if (kept.length === 0) sessionStorage.removeItem(key)
      else sessionStorage.setItem(key, JSON.stringify(kept))
    },
  }
}
