/**
 * Direct and group messages: owns the topics u/{peer}/msg and g/{group}/msg. Guarantees that a message is acknowledged
 * only when it is durable, that it is stored once per (conversation, sender, id), that only members write to a
 * group, and that nobody recalls or edits what is not his.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { Conversation, GroupState } from '../broker/conversation.js'
import { isMember } from '../broker/conversation.js'
import { Refusal, refuse } from '../broker/errors.js'
import type { Operation, Plan } from '../broker/operation.js'
import { faultOfEdit, type Message, messageIdOf, parseMessage, referringTypes } from '../broker/payloads.js'
import type { Caller, PluginFactory, RoutedPublish } from '../broker/plugin.js'
import { bucketsOf, type RateBuckets } from '../broker/rate-buckets.js'
import type { LogEntry, Retransmit } from '../broker/store/store.js'
import { type ConversationId, directConversation, groupConversation, isGroup, isUnnamed } from '../broker/topics.js'

const noEffects: readonly [] = []

/** From one sender into one conversation. */
interface Lane {
  topic: string
  conv: ConversationId
  /** What the stored form of each message has before its id. */
  prefix: Buffer
}

/** One connection that sends. */
interface Sender {
  /** The last one: who writes to a conversation mostly goes on doing so. */
  lane: Lane
  /** Until it resolves nothing of this sender may go into the log: it would overtake what waits. */
  held: Promise<void> | undefined
  /** Something was given up unacknowledged: what was sent behind it is, too. */
  isLost: boolean
}

function laneOf({ topic, caller, id: to }: RoutedPublish): Lane {
  const isToGroup = topic.startsWith('g')
  const conv = isToGroup ? groupConversation(to) : directConversation(caller.user, to)
  return { topic, conv, prefix: Buffer.from(`"from":"${caller.user}",${isToGroup ? '"group"' : '"to"'}:"${to}",`) }
}

function isModerator(group: GroupState | undefined, user: string): boolean {
  const role = group?.members.get(user)?.role
  return role === 'owner' || role === 'admin'
}

/** The last moment that has a date; later is for ever. */
const dateMax = 8.64e15

function muteOf(group: GroupState, user: string): Refusal | undefined {
  if (group.record.mutedUntilTs === undefined && group.members.get(user)?.mutedUntilTs === undefined) return undefined
  if (isModerator(group, user)) return undefined
  const untilTs = Math.max(group.record.mutedUntilTs ?? 0, group.members.get(user)?.mutedUntilTs ?? 0)
  if (untilTs <= Date.now()) return undefined
  return refuse(
    'muted',
    untilTs > dateMax ? 'you are muted in this group' : `you are muted in this group until ${new Date(untilTs).toISOString()}`,
  )
}

/** What the configuration says of messages. */
interface Rules {
  recallMs: number
  groupRate: RateBuckets | undefined
}

class Send implements Operation {
  readonly from: string
  readonly device: string
  readonly id: string
  readonly isRetry: boolean
  readonly retransmit: Retransmit | undefined
  readonly target: number | undefined
  readonly #publish: RoutedPublish
  readonly #sender: Sender
  readonly #message: Message
  readonly #head: Buffer
  readonly #rules: Rules
  readonly conv: ConversationId

  constructor(publish: RoutedPublish, sender: Sender, message: Message, rules: Rules) {
    const { caller } = publish
    const { conv, prefix } = sender.lane
    this.#sender = sender
    this.#rules = rules
    this.conv = conv
    this.from = caller.user
    this.device = caller.device
    this.id = message.id ?? `mqtt-${randomUUID()}`
    this.target = message.target
    this.#publish = publish
    this.#message = message
    const hasId = message.id !== undefined
    this.#head = hasId ? prefix : Buffer.concat([prefix, Buffer.from(`"id":"${this.id}",`)])
    // A device without a name of its own cannot come back to send again.
    this.retransmit = hasId || publish.qos === 0 || isUnnamed(caller.device) ? undefined : retransmitOf(publish)
    this.isRetry = publish.dup
  }

  plan(state: Conversation, _seq: number, target: LogEntry | undefined): Plan | Refusal {
    const { group } = state
    if (isGroup(this.conv)) {
      if (group === undefined) return refuse('not_found', `there is no group ${this.#publish.id}`)
      if (group.record.dissolved) return refuse('not_found', `${this.conv} was dissolved`)
      if (!isMember(group, this.from)) return refuse('forbidden', `you are not a member of ${this.conv}`)
      const muted = this.#message.type === 'recall' ? undefined : muteOf(group, this.from)
      if (muted !== undefined) return muted
    } else if (!state.usersKnown) return refuse('not_found', `there is no user ${this.#publish.id}`)
    else if (state.bars.size > 0 && state.bars.has(this.from)) return state.bars.get(this.from) as Refusal
    if (this.#message.mentionsAll && !isModerator(group, this.from))
      return refuse('forbidden', '@all is for the owner and admins of a group')
    const refusal = this.#message.target === undefined ? undefined : this.#judgeTarget(state, target)
    return refusal ?? this.#judgeRate() ?? { head: this.#head, tail: this.#message.json, effects: noEffects }
  }

  /** Who sends without id is told from a resend by its packet. */
  isEqual(tail: Buffer): boolean {
    const head = this.#head
    return (
      this.#message.id === undefined ||
      (tail.subarray(0, head.length).equals(head) && tail.subarray(head.length).equals(this.#message.json))
    )
  }

  /** Of what members may write: an outsider cannot use up the rate of a group. */
  #judgeRate(): Refusal | undefined {
    const waitMs = isGroup(this.conv) ? (this.#rules.groupRate?.take(this.conv) ?? 0) : 0
    return waitMs > 0 ? refuse('rate_limited', `too many messages into ${this.conv}; try again in ${waitMs} ms`, waitMs) : undefined
  }

  #judgeTarget(state: Conversation, target: LogEntry | undefined): Refusal | undefined {
    const { type } = this.#message
    const spans = state.group?.members.get(this.from)?.spans
    const isVisible =
      target !== undefined && (spans === undefined || spans.some(({ from, to }) => from <= target.seq && target.seq <= (to ?? target.seq)))
    if (target === undefined || !isVisible) return refuse('not_found', `there is no message ${this.#message.target} to speak of`)
    const referred = JSON.parse(target.payload.toString()) as { type: string }
    if (referred.type === 'erased') return refuse('not_found', `the content of message ${target.seq} was erased`)
    if ((referred.type === 'system' && type !== 'reaction') || referringTypes.has(referred.type))
      return refuse('invalid', `${target.seq} is a ${referred.type} entry: only messages can be spoken of by ${type}`)
    if (type === 'reaction') return undefined
    if (type === 'recall' && isModerator(state.group, this.from)) return undefined
    if (target.from === this.from) {
      if (type === 'edit') return faultOfEdit(referred.type, this.#message.newBody)
      const sinceMs = Date.now() - target.ts
      if (sinceMs <= this.#rules.recallMs) return undefined
      return refuse('forbidden', `message ${target.seq} is ${sinceMs} ms old: it can be recalled for ${this.#rules.recallMs} ms`)
    }
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
    this.#sender.isLost = true
    this.#publish.done({ kind: 'unavailable', why })
  }
}

/** Of this process, which has all that a connect sends. */
let sends = 0

function retransmitOf({ caller, topic, payload, packetId, epoch }: RoutedPublish): Retransmit {
  const digest = createHash('sha256').update(topic).update('\0').update(payload).digest('base64')
  return { session: `${caller.user}/${caller.device}`, packetId, digest, epoch, order: ++sends }
}

export const createMessages: PluginFactory = ({ log, config, preparerOf }) => {
  const rules: Rules = { recallMs: config.recallMs, groupRate: bucketsOf(config.groupRateLimit) }
  const senders = new WeakMap<Caller, Sender>()
  const senderOf = (publish: RoutedPublish): Sender => {
    let sender = senders.get(publish.caller)
    if (sender === undefined) {
      sender = { lane: laneOf(publish), held: undefined, isLost: false }
      senders.set(publish.caller, sender)
    } else if (sender.lane.topic !== publish.topic) sender.lane = laneOf(publish)
    return sender
  }

  /** Submits when the message has been prepared, behind what is held. */
  const hold = (sender: Sender, operation: Send, bytes: number, prepare: () => Promise<Refusal | undefined> | undefined): void => {
    const before = sender.held
    const submit = async (): Promise<void> => {
      await before
      try {
        const refusal = sender.isLost ? undefined : await prepare()
        // Also by the log writer, while this one was prepared.
        if (sender.isLost) operation.failed('what was sent before it was given up')
        else if (refusal === undefined) log.submit(operation, bytes)
        else operation.refused(refusal)
      } catch (error) {
        operation.failed(`the message could not be prepared: ${(error as Error).message}`)
      }
    }
    const held = submit().then(() => {
      if (sender.held === held) sender.held = undefined
    })
    sender.held = held
  }

  const send = (publish: RoutedPublish): void => {
    try {
      if (publish.retain) throw refuse('invalid', 'a chat message cannot be retained: it is kept for ever anyway')
      const sender = senderOf(publish)
      const message = parseMessage(publish.payload)
      const operation = new Send(publish, sender, message, rules)
      const bytes = publish.payload.length + 256
      const prepare = preparerOf(message.type)
      if (prepare === undefined && sender.held === undefined) return log.submit(operation, bytes)
      const { from, conv, id } = operation
      hold(sender, operation, bytes, () => prepare?.({ from, conv, id, type: message.type, body: message.body }))
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      publish.done({ kind: 'refused', id: messageIdOf(publish.payload), error })
    }
  }
  return {
    name: 'messages',
    routes: { 'u/{peer}/msg': send, 'g/{group}/msg': send },
  }
}
