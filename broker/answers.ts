/**
 * Tells what became of a batch once it is durable: each entry to its sender and then to its readers, in log order, then the refused,
 * then the duplicates. A fault in one answer neither hides nor repeats the others.
 */
import { refuse } from './errors.js'
import type { LogWriterOptions } from './log-writer.js'
import type { Operation } from './operation.js'
import { type Effect, type LogEntry, StoreUnavailable } from './store/store.js'
import { tailOf } from './stored-form.js'
import { isTombstone } from './tombstone.js'
import type { ConversationId } from './topics.js'
import type { Duplicate, WriteBatch } from './write-batch.js'

export class Answers {
  readonly #options: LogWriterOptions

  constructor(options: LogWriterOptions) {
    this.#options = options
  }

  /** Resolves when all of the batch are answered. */
  async give(batch: WriteBatch): Promise<void> {
    const { observe, observeDeliverySeconds } = this.#options
    this.#giveStored(batch)
    const [first] = batch.written
    if (first !== undefined) observeDeliverySeconds?.((performance.now() - first.queued.sinceMs) / 1000)
    this.#giveEnds(batch)
    this.#giveRefused(batch)
    if (batch.duplicates.length > 0) await this.#giveDuplicates(batch.duplicates)
    observe?.('stored', batch.written.length)
    observe?.('refused', batch.refused.length)
    observe?.('duplicate', batch.duplicates.length)
  }

  /** To the sessions that are here. */
  dispatch(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    try {
      this.#options.dispatch(conv, entry, effects)
    } catch (error) {
      this.#options.logger.error({ err: error, conv, seq: entry.seq }, 'a stored message could not be dispatched')
    }
  }

  #giveStored({ written }: WriteBatch): void {
    const { logger } = this.#options
    for (const { queued, entry, effects } of written) {
      const { operation } = queued
      try {
        operation.stored(entry)
      } catch (error) {
        logger.error({ err: error, conv: operation.conv, seq: entry.seq }, 'a stored message could not be acknowledged')
      }
      this.dispatch(operation.conv, entry, effects)
    }
  }

  #giveEnds({ appends }: WriteBatch): void {
    const { ended } = this.#options
    if (ended !== undefined) for (const { conv, head, entries } of appends.values()) ended(conv, head + entries.length)
  }

  #giveRefused({ refused }: WriteBatch): void {
    for (const { queued, error } of refused) {
      try {
        queued.operation.refused(error)
      } catch (fault) {
        this.#options.logger.error({ err: fault, conv: queued.operation.conv }, 'a refusal could not be answered')
      }
    }
  }

  async #giveDuplicates(duplicates: readonly Duplicate[]): Promise<void> {
    const firsts = await Promise.allSettled(duplicates.map((duplicate) => this.#firstOf(duplicate)))
    for (const [index, first] of firsts.entries()) {
      const { operation } = (duplicates[index] as Duplicate).queued
      try {
        if (first.status === 'rejected') throw first.reason
        this.#options.found?.(operation.conv, first.value.seq)
        answerDuplicate(operation, first.value)
      } catch (error) {
        const { logger } = this.#options
        if (error instanceof StoreUnavailable) logger.warn({ err: error }, 'the store cannot be read for the first of a duplicate')
        else logger.error({ err: error }, 'the first of a duplicate cannot be read')
        operation.failed('the store cannot be read')
      }
    }
  }

  async #firstOf({ queued, seq, entry }: Duplicate): Promise<LogEntry> {
    const { conv } = queued.operation
    const first = entry ?? (await this.#options.store.log.read(conv, seq, seq, 1))[0]
    if (first === undefined) throw new Error(`the index names ${conv} ${seq}, which the log does not have`)
    return first
  }
}

function answerDuplicate(operation: Operation, first: LogEntry): void {
  if (operation.isEqual?.(tailOf(first.payload)) === false && !isTombstone(first.payload)) {
    return operation.refused(
      refuse('conflict', `the id ${JSON.stringify(operation.id)} is already used for another message, seq ${first.seq}`),
    )
  }
  operation.duplicate(first)
}
