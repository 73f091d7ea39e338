/**
 * Read positions: owns u/{peer}/read and g/{group}/read. A position only moves forwards, is durable before PUBACK, and is
 * shown to the user's other sessions. Positions that come in while one write is under way share the next.
 */
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { visibleHead } from '../broker/backlog.js'
import { Refusal, refuse } from '../broker/errors.js'
import { seqSchema } from '../broker/payloads.js'
import type { PluginFactory, RoutedPublish } from '../broker/plugin.js'
import { describeFault } from '../broker/plugin-host.js'
import { addressOf, type ConversationId, directConversation, groupConversation } from '../broker/topics.js'

const payloadSchema = Compile(Type.Object({ seq: seqSchema }, { additionalProperties: false }))

interface Move {
  publish: RoutedPublish
  conv: ConversationId
  seq: number
}

function parseSeq(payload: Buffer): number | Refusal {
  let parsed: unknown
  try {
    parsed = JSON.parse(payload.toString())
  } catch {
    return refuse('invalid', 'a read position is {"seq":42}')
  }
  return payloadSchema.Check(parsed) ? (parsed as { seq: number }).seq : refuse('invalid', describeFault(payloadSchema, parsed))
}

export const createReadPositions: PluginFactory = ({ store, signals, readMoved, logger }) => {
  let waiting: Move[] = []
  let isWriting = false

  /** The position before, or why the new one is refused. */
  const judge = async ({ publish, conv, seq }: Move): Promise<Refusal | number> => {
    const row = await store.directory.conversation(publish.caller.user, conv)
    if (row === undefined) return refuse('not_found', `you have no conversation ${addressOf(conv, publish.caller.user)}`)
    const head = visibleHead(row, await store.log.head(conv))
    return seq > head ? refuse('invalid', `seq ${seq} is past the head, ${head}`) : row.read
  }

  const write = async (moves: Move[]): Promise<void> => {
    const verdicts = await Promise.all(moves.map(judge))
    const good = moves.filter((_, index) => !(verdicts[index] instanceof Refusal))
    await store.directory.setRead(good.map(({ publish, conv, seq }) => ({ user: publish.caller.user, conv, seq })))
    const moved = new Map<string, number>()
    moves.forEach(({ publish, conv, seq }, index) => {
      const before = verdicts[index] as Refusal | number
      if (before instanceof Refusal) return publish.done({ kind: 'refused', id: undefined, error: before })
      publish.done({ kind: 'done' })
      const { user, device } = publish.caller
      const key = `${user} ${conv}`
      if (seq <= (moved.get(key) ?? before)) return
      moved.set(key, seq)
      readMoved(user, conv, seq)
      signals.sendPositions(user, { type: 'read', conv: addressOf(conv, user), seq }, { fields: ['seq'] }, { device })
    })
  }

  const loop = async (): Promise<void> => {
    while (waiting.length > 0) {
      const moves = waiting
      waiting = []
      try {
        await write(moves)
      } catch (error) {
        logger.warn({ err: error }, 'read positions cannot be written')
        for (const { publish } of moves) publish.done({ kind: 'unavailable', why: 'the store cannot be written' })
      }
    }
    isWriting = false
  }

  const move = (publish: RoutedPublish, conv: ConversationId): void => {
    const seq = parseSeq(publish.payload)
    if (typeof seq !== 'number') return publish.done({ kind: 'refused', id: undefined, error: seq })
    waiting.push({ publish, conv, seq })
    if (isWriting) return
    isWriting = true
    setImmediate(() => void loop())
  }

  return {
    name: 'read-positions',
    routes: {
      'u/{peer}/read': (publish) => move(publish, directConversation(publish.caller.user, publish.id)),
      'g/{group}/read': (publish) => move(publish, groupConversation(publish.id)),
    },
  }
}
