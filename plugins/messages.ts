/**
 * Direct and group messages: owns the topics u/{peer}/msg and g/{group}/msg. Guarantees that a message is acknowledged
 * only when it is durable, that it is stored once per (conversation, sender, id), that only members write to a
 * group, and that nobody recalls or edits what is not his.
 */
import { createHash, randomUUID } from 'node:crypto'
import { unnamedDevice } from '../broker/admission.js'
import type { Conversation } from '../broker/conversation.js'
import { isMember } from '../broker/conversation.js'
import { Refusal, refuse } from '../broker/errors.js'
import type { Operation, Plan } from '../broker/log-writer.js'
import { type Message, messageIdOf, parseMessage } from '../broker/payloads.js'
import type { PluginFactory, RoutedPublish } from '../broker/plugin.js'
import type { LogEntry, Retransmit } from '../broker/store/store.js'
import { type ConversationId, directConversation, groupConversation, isGroup } from '../broker/topics.js'

const noEffects: readonly [] = []

class Send implements Operation {
  readonly from: string
  readonly device: string
  readonly id: string
  readonly content: string | undefined
  readonly isRetry: boolean
  readonly retransmit: Retransmit | undefined
  readonly target: number | undefined
  readonly #publish: RoutedPublish
  readonly #message: Message
  readonly #tail: string

  constructor(
    publish: RoutedPublish,
    readonly conv: ConversationId,
    message: Message,
  ) {
    const { caller, id: to } = publish
    this.from = caller.user
    this.device = caller.device
    this.id = message.id ?? `mqtt-${randomUUID()}`
    this.target = message.target
    this.#publish = publish
    this.#message = message
    const receiver = isGroup(conv) ? `"group":"${to}"` : `"to":"${to}"`
    this.#tail = `"from":"${caller.user}",${receiver},"id":${JSON.stringify(this.id)},${message.json}`
    const hasId = message.id !== undefined
    this.content = hasId ? this.#tail : undefined
    // A device without a name of its own cannot come back to send again.
    this.retransmit = hasId || publish.qos === 0 || caller.device.startsWith(unnamedDevice) ? undefined : retransmitOf(publish)
    this.isRetry = publish.dup
  }

  plan(state: Conversation, _seq: number, target: LogEntry | undefined): Plan | Refusal {
    const { group } = state
    if (isGroup(this.conv)) {
      if (group === undefined) return refuse('not_found', `there is no group ${this.#publish.id}`)
      if (group.record.dissolved) return refuse('not_found', `${this.conv} was dissolved`)
      if (!isMember(group, this.from)) return refuse('forbidden', `you are not a member of ${this.conv}`)
    } else if (!state.usersKnown) return refuse('not_found', `there is no user ${this.#publish.id}`)
    const refusal = this.#message.target === undefined ? undefined : this.#judgeTarget(state, target)
    return refusal ?? { tail: this.#tail, effects: noEffects }
  }

  #judgeTarget(state: Conversation, target: LogEntry | undefined): Refusal | undefined {
    const { type } = this.#message
    const spans = state.group?.members.get(this.from)?.spans
    const isVisible =
      target !== undefined && (spans === undefined || spans.some(({ from, to }) => from <= target.seq && target.seq <= (to ?? target.seq)))
    if (target === undefined || !isVisible) return refuse('not_found', `there is no message ${this.#message.target} to speak of`)
    if (type === 'reaction' || target.from === this.from) return undefined
    const role = state.group?.members.get(this.from)?.role
    if (type === 'recall' && (role === 'owner' || role === 'admin')) return undefined
    return refuse(
      'forbidden',
      `message ${target.seq} is ${target.from}'s: only the sender may ${type} it${type === 'recall' ? ', or an admin of the group' : ''}`,
    )
  }

  stored(entry: LogEntry): void {
    this.#publish.done({ kind: 'stored', id: this.id, conv: this.conv, seq: entry.seq, ts: entry.ts, dup: false })
  }

  duplicate(entry: LogEntry): void {
    this.#publish.done({ kind: 'stored', id: entry.id, conv: this.conv, seq: entry.seq, ts: entry.ts, dup: true })
  }

  refused(error: Refusal): void {
    this.#publish.done({ kind: 'refused', id: this.#message.id, error })
  }

  failed(why: string): void {
    this.#publish.done({ kind: 'unavailable', why })
  }
}

function retransmitOf({ caller, topic, payload, packetId }: RoutedPublish): Retransmit {
  const digest = createHash('sha256').update(topic).update('\0').update(payload).digest('base64')
  return { session: `${caller.user}/${caller.device}`, packetId, digest }
}

export const createMessages: PluginFactory = ({ log }) => {
  const send = (publish: RoutedPublish, conv: ConversationId): void => {
    try {
      if (publish.retain) throw refuse('invalid', 'a chat message cannot be retained: it is kept for ever anyway')
      log.submit(new Send(publish, conv, parseMessage(publish.payload)), publish.payload.length + 256)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      publish.done({ kind: 'refused', id: messageIdOf(publish.payload), error })
    }
  }
  return {
    name: 'messages',
    routes: {
      'u/{peer}/msg': (publish) => send(publish, directConversation(publish.caller.user, publish.id)),
      'g/{group}/msg': (publish) => send(publish, groupConversation(publish.id)),
    },
  }
}
