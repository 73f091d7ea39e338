/** Answers whether messages can be accepted now, for GET /readyz and the balancer that asks it. */
import type { LogWriter } from './log-writer.js'
import type { Store } from './store/store.js'

export interface ReadinessWorld {
  log: LogWriter
  store: Store
  isDraining(): boolean
}

/** A proof that the store can be written costs a commit: it is good for so long. */
const proofMs = 1_000

/** The function says why not, or undefined. */
export function createReadiness({ log, store, isDraining }: ReadinessWorld): () => Promise<string | undefined> {
  let provenMs = Number.NEGATIVE_INFINITY
  let failure: string | undefined
  return async () => {
    if (isDraining()) return 'shutting down'
    if (!log.healthy) return 'the store does not take messages'
    if (performance.now() - provenMs < proofMs) return failure
    try {
      await store.check()
      failure = undefined
    } catch (error) {
      failure = (error as Error).message
    }
    provenMs = performance.now()
    return failure
  }
}
