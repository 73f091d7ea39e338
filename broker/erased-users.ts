/**
 * What every node does when a user is erased: his sessions end, and who writes to him, or he to others, is judged anew. The bus tells it at
 * once; a node that it did not reach ends the sessions within `checkMs`, as the store says for a while who was erased, and judges anew what
 * it judged long ago anyway.
 */
import type { Bus } from './bus.js'
import type { ConversationCache } from './conversation-cache.js'
import type { Forgetting } from './forget.js'
import type { Logger } from './logger.js'
import type { Store } from './store/store.js'

export interface ErasedUsersWorld {
  store: Pick<Store, 'isShared' | 'records'>
  bus: Bus
  logger: Logger
  conversations: Pick<ConversationCache, 'changedOf'>
  forget: Pick<Forgetting, 'userHere'>
  checkMs?: number
  now?: () => number
}

const kind = 'erased'
const prefix = 'erased/'
const checkMsDefault = 30_000
/** Long enough for every node to have looked. */
const keptMs = 600_000

export class ErasedUsers {
  readonly #world: ErasedUsersWorld
  readonly #now: () => number
  #timer: NodeJS.Timeout | undefined
  #checking: Promise<void> = Promise.resolve()

  constructor(world: ErasedUsersWorld) {
    this.#world = world
    this.#now = world.now ?? Date.now
    world.bus.on(kind, (user, node) => {
      this.#apply(user.toString()).catch((error) =>
        world.logger.warn({ err: error, node }, 'the sessions of an erased user could not be ended'),
      )
    })
  }

  /** He is marked as erased in the store already. Resolves when this node has done its part. */
  async tell(user: string): Promise<void> {
    const { store, bus } = this.#world
    if (store.isShared) await store.records.put(prefix + user, Buffer.from(String(this.#now())))
    bus.publish(kind, Buffer.from(user))
    await this.#apply(user)
  }

  async #apply(user: string): Promise<void> {
    this.#world.conversations.changedOf(user)
    await this.#world.forget.userHere(user)
  }

  start(): void {
    const { store, checkMs = checkMsDefault } = this.#world
    if (store.isShared) this.#timer = setInterval(() => (this.#checking = this.#check()), checkMs).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#checking
  }

  async #check(): Promise<void> {
    const { store, logger, forget } = this.#world
    try {
      for await (const { key, value } of store.records.entries(prefix)) {
        await forget.userHere(key.slice(prefix.length))
        if (this.#now() - Number(value.toString()) > keptMs) await store.records.remove(key)
      }
    } catch (error) {
      logger.warn({ err: error }, 'who was erased lately cannot be read; the next look will')
    }
  }
}
