/**
 * What makes one of several nodes of a server: it gives to its sessions, in log order, what any node has written, and tells the others of what
 * it has written itself.
 */
import type { Bus } from '../bus.js'
import type { Logger } from '../logger.js'
import type { Positions } from '../positions.js'
import type { Effect, LogEntry, Store } from '../store/store.js'
import type { ConversationId } from '../topics.js'
import type { Written } from './frame.js'
import { KeptLists } from './kept-lists.js'
import { LogCheck } from './log-check.js'
import { LogFeed } from './log-feed.js'
import { LogFollower } from './log-follower.js'
import { type Audience, LogOrder } from './log-order.js'

export interface ClusterOptions {
  store: Store
  logger: Logger
  bus: Bus
  /** The hub, asked for at each use: it is made with this node's positions. */
  audience: () => Audience
  /** Another node has written. */
  learned(written: Written): void
  /** Another node has come to this entry, and what it wrote may have been missed. */
  missed(conv: ConversationId, head: number): void
  observe: { recovered(entries: number): void; lost(): void }
}

export class Cluster {
  readonly lists: KeptLists
  readonly #order: LogOrder
  readonly #check: LogCheck
  readonly #follower: LogFollower
  readonly #feed: LogFeed

  constructor({ store, logger, bus, audience, learned, missed, observe }: ClusterOptions) {
    this.lists = new KeptLists({ store, bus, hearsAll: () => this.#follower.hearsAll })
    const { lists } = this
    bus.onMissed(() => lists.doubted())
    const recovered = (entries: number): void => {
      lists.doubted()
      observe.recovered(entries)
    }
    this.#order = new LogOrder({ store, logger, audience, observeRecovered: recovered, reading: (user) => lists.reading(user) })
    this.#check = new LogCheck({ store, logger, order: this.#order, audience })
    this.#follower = new LogFollower({
      bus,
      order: this.#order,
      check: this.#check,
      logger,
      learned(written) {
        lists.changed(written.conv, written.effects)
        learned(written)
      },
      missed,
      observeLost() {
        lists.doubted()
        observe.lost()
      },
    })
    this.#feed = new LogFeed(bus)
  }

  get positions(): Positions {
    return this.#order
  }

  /** Other nodes that are heard. */
  get peers(): number {
    return this.#follower.peers
  }

  /** Conversations in which something is known to be missing here. */
  get gaps(): number {
    return this.#order.gaps
  }

  /** This node has written an entry; in log order per conversation. */
  written(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    this.lists.changed(conv, effects)
    this.#order.offer(conv, entry, effects)
    this.#feed.written(conv, entry, effects)
  }

  /** This entry, given a moment ago, is the last one of an append. */
  ended(conv: ConversationId, seq: number): void {
    this.#feed.ended(conv, seq)
  }

  /** The log has come to this entry, and it may be that nobody was told: whoever wrote it does not know that it was written. */
  found(conv: ConversationId, seq: number): void {
    this.lists.doubted()
    this.#order.reached(conv, seq)
    this.#feed.found(conv, seq)
  }

  /** Says good-bye to the others. */
  close(): void {
    this.#follower.close()
    this.#check.close()
    this.#order.close()
    this.#feed.close()
  }
}
