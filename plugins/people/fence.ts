/** An operation that writes nothing: it is answered when all that was submitted to its conversation before it has been. */
import { randomUUID } from 'node:crypto'
import { refuse } from '../../broker/errors.js'
import type { LogWriter } from '../../broker/log-writer.js'
import type { ConversationId } from '../../broker/topics.js'

export function passes(log: LogWriter, conv: ConversationId): Promise<void> {
  return new Promise((resolve) => {
    const passed = (): void => resolve()
    const none = { retransmit: undefined, isRetry: false, target: undefined }
    const answers = { plan: () => refuse('conflict', 'a fence'), stored: passed, duplicate: passed, refused: passed, failed: passed }
    log.submit({ conv, from: '', device: '', id: `fence-${randomUUID()}`, ...none, ...answers }, 0)
  })
}
