/**
 * Erases users: from the answer on nobody can connect as one; then his sessions, what plugins keep of him, the content of his messages and
 * how far he was go, in this order. The work to do is kept durably until it is done and is taken up again at start; every step can be
 * repeated. What stays: the id, with which his entries keep their place in their logs and which is never used again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Delivered } from './delivered.js'
import { endSessions, type SessionsWorld } from './end-sessions.js'
import { tellErased } from './erased-notice.js'
import type { ErasedUsers } from './erased-users.js'
import { refuse } from './errors.js'
import { InTurn } from './in-turn.js'
import type { LogWriter } from './log-writer.js'
import type { Logger } from './logger.js'
import type { PluginHost } from './plugin-host.js'
import { StoreUnavailable } from './store/store.js'
import { sweep } from './sweep.js'
import type { ConversationId } from './topics.js'

export interface ErasureWorld extends SessionsWorld {
  log: LogWriter
  logger: Logger
  plugins: PluginHost
  delivered: Delivered
  erased: ErasedUsers
  retryMs?: number
}

const jobPrefix = 'erasures/'
const retryMsDefault = 5_000

export class Erasure {
  readonly #world: ErasureWorld
  readonly #turns = new InTurn()
  /** Users whose work waits or goes on here. */
  readonly #running = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()

  constructor(world: ErasureWorld) {
    this.#world = world
  }

  /** Takes up what was not finished; a store that cannot be read now is asked again later, since the server may serve before it is back. */
  async start(): Promise<void> {
    const { store, logger, retryMs = retryMsDefault } = this.#world
    const { signal } = this.#stopping
    try {
      for await (const { key } of store.records.entries(jobPrefix)) this.#begin(key.slice(jobPrefix.length))
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error
      logger.warn({ err: error }, 'erasures that are not finished cannot be read yet; it is tried again')
      void delay(retryMs, undefined, { signal, ref: false }).then(() => this.start(), ignore)
    }
  }

  /** Resolves when it is certain to be done; `done`: it is. */
  async erase(user: string): Promise<{ user: string; done: boolean }> {
    const { directory, records } = this.#world.store
    const record = await directory.user(user)
    if (record === undefined) throw refuse('not_found', `there is no user ${user}`)
    const isBegun = (await records.get(jobPrefix + user)) !== undefined
    if (record.erasedTs !== undefined && !isBegun) return { user, done: true }
    if (!isBegun) await records.put(jobPrefix + user, Buffer.from('{}'))
    await this.#mark(user)
    this.#begin(user)
    return { user, done: false }
  }

  /** Resolves when nothing is under way any more; the rest is done after the next start. */
  async close(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#running.values())
  }

  /** One user after the other. */
  #begin(user: string): void {
    if (this.#running.has(user)) return
    const run = this.#turns.run(['erasure'], () => this.#untilDone(user)).finally(() => this.#running.delete(user))
    this.#running.set(user, run)
  }

  async #untilDone(user: string): Promise<void> {
    const { logger, retryMs = retryMsDefault } = this.#world
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await this.#do(user)
        logger.info({ user }, 'a user was erased')
        return
      } catch (error) {
        if (signal.aborted) return
        logger.error({ err: error, user }, 'a user could not be erased yet; it is tried again')
        await delay(retryMs, undefined, { signal, ref: false }).catch(ignore)
      }
    }
  }

  async #do(user: string): Promise<void> {
    const { store, plugins, delivered } = this.#world
    await this.#mark(user)
    await endSessions(this.#world, user)
    await plugins.eraseUser(user)
    await this.#eraseMessages(user)
    for (const { conv } of await store.directory.conversationsOf(user)) await delivered.forget(user, conv)
    await store.log.scrub()
    await store.records.remove(jobPrefix + user)
  }

  async #mark(user: string): Promise<void> {
    const { directory } = this.#world.store
    const { erasedTs = Date.now(), createdTs = Date.now() } = (await directory.user(user)) ?? {}
    await directory.putUser({ user, createdTs, erasedTs })
    await this.#world.erased.tell(user)
  }

  /** Until nothing has come since: what he sent last may have been on its way. */
  async #eraseMessages(user: string): Promise<void> {
    const { store, log, plugins } = this.#world
    const next = new Map<ConversationId, number>()
    for (let isMoving = true; isMoving; ) {
      isMoving = false
      for (const { conv } of await store.directory.conversationsOf(user)) {
        const from = next.get(conv) ?? 1
        const to = await store.log.head(conv)
        if (from > to) continue
        isMoving = true
        const judge = ({ from: sender }: { from: string }) => (sender === user ? 'erase' : 'keep')
        const { erased } = await sweep({ log: store.log, plugins, conv, from, to, judge, signal: this.#stopping.signal })
        if (erased > 0) await tellErased(log, conv, user)
        log.conversations.changed(conv)
        next.set(conv, to + 1)
      }
    }
  }
}

const ignore = (): void => undefined
