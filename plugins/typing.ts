/**
 * Typing: owns u/{peer}/typing and g/{group}/typing. A signal reaches the peer's live sessions, or those sessions of a group's members
 * that subscribed to it, on every node; it is never stored, and ends by itself when it is not repeated.
 */
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { refuse } from '../broker/errors.js'
import type { PluginFactory, RoutedPublish } from '../broker/plugin.js'
import { type ConversationId, directConversation, groupConversation, groupOf, isGroup, typingTopic } from '../broker/topics.js'

const payloadSchema = Compile(Type.Object({ on: Type.Optional(Type.Boolean()) }, { additionalProperties: false }))
/** Who is not heard to write again within this time has stopped. */
const typingMs = 6_000
/** Past it nobody is told of the end of the oldest; clients end them by themselves. */
const writersMax = 100_000
const busKind = 'typing'

/** What one node tells the others of a group. */
interface GroupSignal {
  conv: ConversationId
  from: string
  on: boolean
}

/** undefined: not a typing signal. */
function isOn(payload: Buffer): boolean | undefined {
  if (payload.length === 0) return true
  try {
    const parsed = JSON.parse(payload.toString()) as unknown
    return payloadSchema.Check(parsed) ? ((parsed as { on?: boolean }).on ?? true) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

export const createTyping: PluginFactory = ({ store: { directory }, log, hub, bus, signals, logger }) => {
  /** The end of each that is writing, by user and conversation. */
  const writers = new Map<string, NodeJS.Timeout>()

  const tellGroup = ({ conv, from, on }: GroupSignal): void => {
    const payload = JSON.stringify({ from, on })
    const group = groupOf(conv)
    for (const session of hub.audienceOf(conv)) {
      const { typingGroups } = session
      if (session.user !== from && (typingGroups?.has(group) || typingGroups?.has('+'))) session.sendSignal(typingTopic(conv, ''), payload)
    }
  }
  bus.on(busKind, (bytes) => tellGroup(JSON.parse(bytes.toString()) as GroupSignal))

  const tell = (conv: ConversationId, from: string, peer: string, on: boolean): void => {
    if (!isGroup(conv)) return signals.sendSignal(peer, typingTopic(conv, peer), JSON.stringify({ from, on }))
    const signal: GroupSignal = { conv, from, on }
    tellGroup(signal)
    bus.publish(busKind, Buffer.from(JSON.stringify(signal)))
  }

  const begin = (key: string, ends: () => void): void => {
    clearTimeout(writers.get(key))
    writers.delete(key)
    const expire = (): void => {
      writers.delete(key)
      ends()
    }
    writers.set(key, setTimeout(expire, typingMs).unref())
    for (const [oldest, timer] of writers) {
      if (writers.size <= writersMax) break
      clearTimeout(timer)
      writers.delete(oldest)
    }
  }

  const move = (conv: ConversationId, from: string, peer: string, on: boolean): void => {
    const key = `${from} ${conv}`
    if (on) begin(key, () => tell(conv, from, peer, false))
    else {
      clearTimeout(writers.get(key))
      if (!writers.delete(key)) return
    }
    tell(conv, from, peer, on)
  }

  /** Members of a group, and who has a conversation with the peer and may write to him. */
  const mayTell = async (conv: ConversationId, user: string, peer: string): Promise<boolean> => {
    if (isGroup(conv)) return (await directory.member(groupOf(conv), user))?.role !== undefined
    if ((await directory.conversation(user, conv)) === undefined) return false
    return (await log.conversations.judge(user, peer)) === undefined
  }

  const signal = (publish: RoutedPublish, conv: ConversationId): void => {
    const { caller, id } = publish
    const on = isOn(publish.payload)
    if (on === undefined) {
      const error = refuse('invalid', 'a typing signal is empty or {"on":false}')
      return publish.done({ kind: 'refused', id: undefined, error })
    }
    mayTell(conv, caller.user, id).then(
      (may) => {
        if (!may)
          return publish.done({ kind: 'refused', id: undefined, error: refuse('forbidden', `you cannot write on ${publish.topic}`) })
        move(conv, caller.user, id, on)
        publish.done({ kind: 'done' })
      },
      (error) => {
        logger.warn({ err: error }, 'a typing signal could not be judged')
        publish.done({ kind: 'done' })
      },
    )
  }

  return {
    name: 'typing',
    routes: {
      'u/{peer}/typing': (publish) => signal(publish, directConversation(publish.caller.user, publish.id)),
      'g/{group}/typing': (publish) => signal(publish, groupConversation(publish.id)),
    },
  }
}
