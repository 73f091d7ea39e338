/**
 * Saves changes of what is kept in memory, in the order in which they were made, without anyone waiting for the disk.
 * Of several changes to one key only the last is written. A store that fails is tried again until it takes them; after
 * a crash the changes of about the last second may be missing, never a later one without an earlier one.
 */
import type { Logger } from '../logger.js'
import type { KeyValueStore } from './store.js'

/** Changes that go into one commit. */
const changesPerCommit = 512
const retryMs = 1_000

export class WriteBehind {
  readonly #store: KeyValueStore
  readonly #logger: Logger | undefined
  /** In the order of the last change; undefined: removed. */
  #changes = new Map<string, Buffer | undefined>()
  /** Keys of which nothing can be on disk. */
  readonly #unsaved = new Set<string>()
  #running: Promise<void> | undefined
  #failing = false
  #closing = false
  #wake: (() => void) | undefined

  constructor(store: KeyValueStore, logger: Logger | undefined) {
    this.#store = store
    this.#logger = logger
  }

  /** Changes that are not on disk yet. */
  get size(): number {
    return this.#changes.size
  }

  /** A key that was never used before: when it is removed in time, nothing is written. */
  add(key: string, value: Buffer): void {
    this.#unsaved.add(key)
    this.#change(key, value)
  }

  put(key: string, value: Buffer): void {
    this.#change(key, value)
  }

  remove(key: string): void {
    if (this.#unsaved.delete(key)) this.#changes.delete(key)
    else this.#change(key, undefined)
  }

  /** Resolves when all changes are on disk, or have failed once more. */
  async close(): Promise<void> {
    this.#closing = true
    this.#wake?.()
    await this.#running
    if (this.#changes.size > 0) this.#logger?.error({ changes: this.#changes.size }, 'changes of open topics could not be saved')
  }

  #change(key: string, value: Buffer | undefined): void {
    this.#changes.delete(key)
    this.#changes.set(key, value)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#changes.size > 0) {
      const succeeded = await this.#commitSome()
      if (succeeded) continue
      if (this.#closing) break
      await this.#pause()
    }
    this.#running = undefined
  }

  async #commitSome(): Promise<boolean> {
    const some: [string, Buffer | undefined][] = []
    for (const change of this.#changes) {
      if (some.push(change) === changesPerCommit) break
    }
    for (const [key] of some) this.#unsaved.delete(key)
    const writes = some.map(([key, value]) => (value === undefined ? this.#store.remove(key) : this.#store.put(key, value)))
    const results = await Promise.allSettled(writes)
    const failure = results.find((result) => result.status === 'rejected')
    if (failure !== undefined) {
      if (!this.#failing) this.#logger?.warn({ err: failure.reason }, 'open topics are not saved now; it is tried again')
      this.#failing = true
      return false
    }
    this.#failing = false
    for (const [key, value] of some) {
      if (this.#changes.get(key) === value) this.#changes.delete(key)
    }
    return true
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, retryMs)
      timer.unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
