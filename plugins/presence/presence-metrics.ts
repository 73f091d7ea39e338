/** What presence counts, in the metrics of the server. */
import { Counter, Gauge, type Registry } from 'prom-client'

export interface PresenceMetrics {
  /** A session was told of a user. */
  told(): void
}

/** `watches` is read when the metrics are asked for. */
export function createPresenceMetrics(registry: Registry, watches: () => number): PresenceMetrics {
  const registers = [registry]
  new Gauge({
    name: 'parley_presence_watches',
    help: 'Users watched by sessions, each pair counted',
    registers,
    collect() {
      this.set(watches())
    },
  })
  const told = new Counter({
    name: 'parley_presence_told_total',
    help: 'Times that a session was told whether a user is online',
    registers,
  })
  return { told: () => told.inc() }
}
