/** What the server counts, for GET /metrics in Prometheus' text format. docs/operations.md says what to watch. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Read when the metrics are asked for. */
export interface MetricsSources {
  sessions(): number
  behind(): number
  waiting(): number
  unsaved(): number
  devices?: { nodes: number; unwritten: number }
  /** Undefined without other nodes. */
  cluster?: { peers: number; gaps: number } | undefined
  /** Undefined without TLS. */
  certificateExpiresMs?: (() => number) | undefined
}

const latencyBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]

export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry, prefix: 'parley_' })
  const sends = new Counter({ name: 'parley_sends_total', help: 'Messages sent by clients, by result', labelNames: ['result'], registers })
  // There from the start: a rate needs the 0 before the first.
  for (const result of ['stored', 'duplicate', 'refused', 'failed']) sends.inc({ result }, 0)
  const connections = { tcp: 0, tls: 0, ws: 0 }
  new Gauge({
    name: 'parley_connections',
    help: 'Open connections',
    labelNames: ['transport'],
    registers,
    collect() {
      for (const [transport, count] of Object.entries(connections)) this.set({ transport }, count)
    },
  })
  return {
    registry,
    sends: {
      stored: sends.labels('stored'),
      duplicate: sends.labels('duplicate'),
      refused: sends.labels('refused'),
      failed: sends.labels('failed'),
    },
    /** Open ones, by transport; counted by whoever opens and closes them. */
    connections,
    delivered: countedOften({ name: 'parley_deliveries_total', help: 'Messages offered to live sessions', registers }),
    replayed: new Counter({ name: 'parley_replayed_total', help: 'Messages sent from the log to sessions that were behind', registers }),
    refusedConnects: new Counter({ name: 'parley_connects_refused_total', help: 'Connects refused', labelNames: ['reason'], registers }),
    violations: new Counter({ name: 'parley_protocol_violations_total', help: 'Connections closed for a protocol violation', registers }),
    overtaken: new Counter({
      name: 'parley_sessions_overtaken_total',
      help: 'Sessions closed because their device has connected to another node',
      registers,
    }),
    rejoined: new Counter({
      name: 'parley_registry_rejoined_total',
      help: 'Times that this node was taken for dead, or Redis lost what it knew, and all devices were claimed anew',
      registers,
    }),
    rpcCalls: new Counter({ name: 'parley_rpc_calls_total', help: 'Calls of methods, by result', labelNames: ['result'], registers }),
    recovered: new Counter({
      name: 'parley_cluster_recovered_total',
      help: 'Entries of other nodes that were not heard of in time and read from the log',
      registers,
    }),
    lostFrames: new Counter({ name: 'parley_cluster_frames_lost_total', help: 'Times that frames of another node were missed', registers }),
    appendSeconds: new Histogram({
      name: 'parley_append_seconds',
      help: 'Batches: from taking the queue to durable',
      buckets: latencyBuckets,
      registers,
    }),
    deliverySeconds: new Histogram({
      name: 'parley_delivery_seconds',
      help: 'Messages: from arrival at the server to being handed to the live sessions (sampled)',
      buckets: latencyBuckets,
      registers,
    }),
    watch(sources: MetricsSources): void {
      const gauge = (name: string, help: string, read: () => number): void => {
        new Gauge({
          name,
          help,
          registers,
          collect() {
            this.set(read())
          },
        })
      }
      gauge('parley_sessions', 'Live sessions of users', sources.sessions)
      gauge('parley_sessions_behind', 'Sessions that are behind the log in a conversation', sources.behind)
      gauge('parley_log_waiting', 'Operations that wait for the log', sources.waiting)
      gauge('parley_application_changes_unsaved', 'Changes of application topics that are not on disk yet', sources.unsaved)
      const { certificateExpiresMs, cluster, devices } = sources
      gauge('parley_registry_nodes', 'Nodes that live, this one included', () => devices?.nodes ?? 1)
      gauge('parley_registry_unwritten', 'Devices of this node that other nodes may not know of yet', () => devices?.unwritten ?? 0)
      gauge('parley_cluster_peers', 'Other nodes that are heard', () => cluster?.peers ?? 0)
      gauge('parley_cluster_gaps', 'Conversations in which something of another node is missing and being read', () => cluster?.gaps ?? 0)
      if (certificateExpiresMs !== undefined) {
        const seconds = (): number => certificateExpiresMs() / 1000
        gauge('parley_certificate_expires_timestamp_seconds', 'When the TLS certificate in use expires, as Unix time', seconds)
      }
    },
  }
}

/** A counter for the way of every message: a plain number, until somebody asks. */
function countedOften({ name, help, registers }: { name: string; help: string; registers: Registry[] }): { inc(by: number): void } {
  let since = 0
  new Counter({
    name,
    help,
    registers,
    collect() {
      this.inc(since)
      since = 0
    },
  })
  return {
    inc(by) {
      since += by
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
