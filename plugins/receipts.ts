/**
 * Receipts: owns the method receipts. In a direct conversation the peer's online sessions are told how far a user has received and
 * read, once for each conversation and 200 ms; in a group members ask. Nothing is counted: both are positions.
 */
import { Type } from 'typebox'
import { type Position, positionOf } from '../broker/delivered.js'
import { refuse } from '../broker/errors.js'
import { addressSchema, seqSchema } from '../broker/payloads.js'
import { type Caller, method, type PluginFactory, type PluginServer } from '../broker/plugin.js'
import { type Address, addressOf, type ConversationId, conversationOf, groupOf, isGroup, peerOf } from '../broker/topics.js'

const coalesceMs = 200

const paramsSchema = Type.Object({ conv: addressSchema, seq: Type.Optional(seqSchema) }, { additionalProperties: false })

type World = Pick<PluginServer, 'store' | 'delivered'>

/** Of all members but the caller. */
async function positionsOf(world: World, { user }: Caller, address: Address): Promise<Position[]> {
  const conv = conversationOf(address, user) as ConversationId
  const { directory } = world.store
  if (!isGroup(conv)) {
    if ((await directory.conversation(user, conv)) === undefined) throw refuse('not_found', `you have no conversation ${address}`)
    const peer = peerOf(conv, user)
    return peer === user ? [] : [await positionOf(world, peer, conv)]
  }
  if ((await directory.member(groupOf(conv), user))?.role === undefined) throw refuse('forbidden', `you are not a member of ${address}`)
  const members = (await directory.members(groupOf(conv))).filter((member) => member.role !== undefined && member.user !== user)
  const delivered = await world.delivered.ofAll(conv)
  return Promise.all(
    members.map(async (member) => {
      const read = (await directory.conversation(member.user, conv))?.read ?? 0
      return { user: member.user, delivered: Math.max(read, delivered.get(member.user) ?? 0), read }
    }),
  )
}

async function receipts(world: World, caller: Caller, { conv, seq }: { conv: Address; seq?: number }): Promise<object> {
  const positions = await positionsOf(world, caller, conv)
  if (seq === undefined) {
    const moved = positions.filter(({ delivered }) => delivered > 0)
    return { receipts: Object.fromEntries(moved.map(({ user, delivered, read }) => [user, [delivered, read]])) }
  }
  const reached = positions.filter(({ delivered }) => delivered >= seq)
  const names = (isRead: 'read' | 'delivered'): string[] =>
    reached.filter(({ read }) => read >= seq === (isRead === 'read')).map(({ user }) => user)
  return { seq, read: names('read'), delivered: names('delivered') }
}

export const createReceipts: PluginFactory = ({ store, delivered, signals, logger }) => {
  const world = { store, delivered }
  let moved = new Map<string, { user: string; conv: ConversationId }>()
  let isScheduled = false

  const tell = async (): Promise<void> => {
    const all = [...moved.values()]
    moved = new Map()
    try {
      for (const { user, conv } of all) {
        const peer = peerOf(conv, user)
        signals.sendEvent(peer, { type: 'receipt', conv: addressOf(conv, peer), ...(await positionOf(world, user, conv)) })
      }
    } catch (error) {
      logger.warn({ err: error }, 'receipts cannot be told')
    }
    isScheduled = false
    if (moved.size > 0) schedule()
  }

  const schedule = (): void => {
    if (isScheduled) return
    isScheduled = true
    setTimeout(() => void tell(), coalesceMs).unref()
  }

  const note = (user: string, conv: ConversationId): void => {
    if (isGroup(conv) || peerOf(conv, user) === user) return
    moved.set(`${user} ${conv}`, { user, conv })
    schedule()
  }

  return {
    name: 'receipts',
    methods: { receipts: method(paramsSchema, (caller, params) => receipts(world, caller, params)) },
    onDelivered: note,
    onRead: note,
  }
}
