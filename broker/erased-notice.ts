/**
 * The one entry by which a conversation hears that a user was erased, so that devices which have his messages can drop them. It has the
 * same id whenever it is asked for, so it is written once.
 */
import type { LogWriter } from './log-writer.js'
import type { Operation, Plan } from './operation.js'
import { StoreUnavailable } from './store/store.js'
import { type ConversationId, groupOf, isGroup, peerOf } from './topics.js'

export function tellErased(log: LogWriter, conv: ConversationId, user: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const id = `sys-erased-${user}`
    const place = isGroup(conv) ? { group: groupOf(conv) } : { to: peerOf(conv, user) }
    const tail = JSON.stringify({ from: user, ...place, id, type: 'system', body: { event: 'erased', users: [user] } }).slice(1, -1)
    const plan: Plan = { tail: Buffer.from(tail), effects: [] }
    const done = (): void => resolve()
    const notice: Operation = {
      conv,
      from: user,
      device: '',
      id,
      retransmit: undefined,
      isRetry: false,
      target: undefined,
      plan: () => plan,
      stored: done,
      duplicate: done,
      refused: reject,
      failed: (why) => reject(new StoreUnavailable(why)),
    }
    log.submit(notice, tail.length)
  })
}
