/**
 * What is audited: servers that the audit starts and may do anything to. `embedded.ts` is one node on the embedded store; a
 * cluster is a Deployment with more nodes. What a deployment cannot suffer it says with the reason, which the report shows.
 */
import type { Gate } from './gate.js'
import type { Service } from './service.js'

/** Friends whose presence each client watches. */
export const watchedMax = 2

/** A user, and whom he has to do with. */
export interface Acquaintances {
  user: string
  groups: readonly string[]
  friends: readonly string[]
}

export interface NodeExit {
  isOrdered: boolean
  /** Exit code or signal, in words. */
  why: string
}

export interface AuditNode {
  readonly name: string
  /** 0 while it does not listen. */
  readonly mqttPort: number
  readonly httpPort: number
  /** It listens, and has not been told to end. */
  readonly isUp: boolean
  /** Resolves when it listens. Throws with what it printed when it does not come up. */
  start(): Promise<void>
  /** kill -9. */
  kill(): Promise<void>
  /** SIGTERM; resolves with its exit. */
  stop(): Promise<NodeExit>
  /** SIGSTOP. */
  freeze(): void
  /** SIGCONT. */
  thaw(): void
  /** Moves its wall clock, in relation to the true time. */
  setClock(shiftMs: number): void
  /** Resident memory; 0 when it is not known. */
  rssBytes(): number
  /** Open descriptors; 0 when it is not known. */
  descriptors(): number
  /** Sum over the labels of one metric; undefined when the node has no such metric. */
  metric(name: string): Promise<number | undefined>
}

export interface DeploymentEvents {
  /** A node has ended; `isOrdered` is false when nobody asked for it. */
  exited(node: AuditNode, exit: NodeExit): void
  /** A line of its log of level error or above, or what is not a line of a log. */
  logged(node: AuditNode, level: string, text: string): void
}

/** What stands behind the nodes of a cluster. */
export interface Backing {
  readonly redis: Service
  readonly store: Service
  /** Between a node and these. */
  gateOf(node: AuditNode, service: 'redis' | 'store'): Gate
}

export interface Deployment {
  /** Only of a cluster. */
  readonly backing?: Backing
  readonly nodes: readonly AuditNode[]
  /** Of HS256, for tokens. */
  readonly secret: string
  /** Why this kind of fault cannot be done here; undefined: it can. */
  cannot(kind: string): string | undefined
  fillDisk(): void
  freeDisk(): void
  /** What each user's clients subscribe to; on Parley only what is opt-in. */
  filtersOf(whose: Acquaintances): readonly string[]
  /** Ends all nodes and removes what they left. */
  close(): Promise<void>
}
