/**
 * The operations that wait for the log, in the order in which they came. Bounded in number and bytes; gives batches, which are bounded
 * too, and lets go of what has waited too long. Owned by the log writer.
 */
import type { Operation } from './operation.js'
import type { ConversationId } from './topics.js'

export interface Queued {
  operation: Operation
  sinceMs: number
  bytes: number
}

/** Few enough that the next batch fills while this one is written. */
export const batchMax = 512
/** Unless one operation alone is larger. All of it may be of one conversation, of which MongoDB takes 15 MiB at once. */
const batchBytesMax = 8 * 1024 * 1024
/** Beyond, clients are told to come back. */
const queueMax = 200_000
const queueBytesMax = 256 * 1024 * 1024
/** So many are looked at for those whose conversation is free. */
const lookedAtMax = 8 * batchMax

const senderOf = ({ operation }: Queued): string => `${operation.from}/${operation.device}`

export class WriteQueue {
  #waiting: Queued[] = []
  #bytes = 0

  get length(): number {
    return this.#waiting.length
  }

  get isFull(): boolean {
    return this.#waiting.length >= queueMax || this.#bytes >= queueBytesMax
  }

  push(queued: Queued): void {
    this.#waiting.push(queued)
    this.#bytes += queued.bytes
  }

  /** Takes the next batch. */
  take(): Queued[] {
    const waiting = this.#waiting
    let bytes = 0
    let count = 0
    for (; count < waiting.length && count < batchMax; count++) {
      const more = bytes + (waiting[count] as Queued).bytes
      if (more > batchBytesMax && count > 0) break
      bytes = more
    }
    this.#bytes -= bytes
    if (count < waiting.length) return waiting.splice(0, count)
    this.#waiting = []
    return waiting
  }

  /** Takes the next batch of conversations that are free; the others keep their place. */
  takeFree(isBusy: (conv: ConversationId) => boolean): Queued[] {
    const waiting = this.#waiting
    const taken: Queued[] = []
    const kept: Queued[] = []
    let bytes = 0
    let at = 0
    for (; at < waiting.length && at < lookedAtMax && taken.length < batchMax; at++) {
      const queued = waiting[at] as Queued
      if (isBusy(queued.operation.conv)) {
        kept.push(queued)
        continue
      }
      if (bytes + queued.bytes > batchBytesMax && taken.length > 0) break
      bytes += queued.bytes
      taken.push(queued)
    }
    if (taken.length === 0) return taken
    this.#bytes -= bytes
    this.#waiting = at === waiting.length ? kept : kept.concat(waiting.slice(at))
    return taken
  }

  /** Puts what was taken back to the front, in its old order. */
  putBack(taken: readonly Queued[]): void {
    if (taken.length > 0) this.#set(taken.concat(this.#waiting))
  }

  /**
   * Takes all that has waited since before `giveUpMs`, and with it all that its sender sent since: that must not be stored before what
   * the client sends again.
   */
  giveUp(giveUpMs: number): Queued[] {
    const senders = new Set<string>()
    const kept: Queued[] = []
    const givenUp: Queued[] = []
    for (const queued of this.#waiting) {
      if (queued.sinceMs > giveUpMs && !senders.has(senderOf(queued))) kept.push(queued)
      else {
        senders.add(senderOf(queued))
        givenUp.push(queued)
      }
    }
    this.#set(kept)
    return givenUp
  }

  #set(waiting: Queued[]): void {
    this.#waiting = waiting
    this.#bytes = waiting.reduce((sum, { bytes }) => sum + bytes, 0)
  }
}
