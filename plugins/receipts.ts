/**
 * Receipts: owns the method receipts. In a direct conversation the peer's online sessions are told how far a user has received and
 * read, once for each conversation and 200 ms; in a group members ask. Nothing is counted: both are positions.
 */
import { type Static, Type } from 'typebox'
import { type Position, positionOf, positionsOf } from '../broker/delivered.js'
import { refuse } from '../broker/errors.js'
import { addressSchema, idSchema, seqSchema } from '../broker/payloads.js'
import { type Caller, method, type PluginFactory, type PluginServer } from '../broker/plugin.js'
import { type Address, addressOf, type ConversationId, conversationOf, groupOf, isGroup, peerOf } from '../broker/topics.js'
import { warmUp } from '../broker/warm-up.js'

const coalesceMs = 200
const busKind = 'receipts'

/** How far users have received, as one node tells the others: who was told so by an event asks no node that knows less. */
type Told = [user: string, conv: ConversationId, delivered: number][]

/** Of the answer as JSON; a group of 500 with ids of 14 characters fits. */
const replyBytesMax = 16_000
/** What a reply has around its entries, with the longest cursor. */
const frameBytes = 200

const paramsSchema = Type.Object(
  { conv: addressSchema, seq: Type.Optional(seqSchema), cursor: Type.Optional(idSchema) },
  { additionalProperties: false },
)

const countSchema = Type.Integer({ minimum: 0 })

/** Delivered and read. Not as a tuple: JSON Schema of today has another word for that than typebox. */
const pairSchema = Type.Array(countSchema, { minItems: 2, maxItems: 2 })

const resultSchema = Type.Object({
  receipts: Type.Optional(Type.Record(idSchema, pairSchema)),
  seq: Type.Optional(seqSchema),
  read: Type.Optional(Type.Array(idSchema)),
  delivered: Type.Optional(Type.Array(idSchema)),
  next: Type.Optional(idSchema),
})

const movedInGroupsMax = 500

/** Groups whose receipts are made before anybody asks. */
const warmedMax = 20

type World = Pick<PluginServer, 'store' | 'delivered'>

/** Of all members but the caller, by user id. */
async function positionsOfOthers(world: World, { user }: Caller, address: Address): Promise<Position[]> {
  const conv = conversationOf(address, user) as ConversationId
  const { directory } = world.store
  if (!isGroup(conv)) {
    if ((await directory.conversation(user, conv)) === undefined) throw refuse('not_found', `you have no conversation ${address}`)
    const peer = peerOf(conv, user)
    return peer === user ? [] : [await positionOf(world, peer, conv)]
  }
  const [members, deliveredTo] = await Promise.all([directory.membersWithReads(groupOf(conv)), world.delivered.in(conv)])
  if (members.find((member) => member.user === user)?.role === undefined) throw refuse('forbidden', `you are not a member of ${address}`)
  const others = members.filter((member) => member.role !== undefined && member.user !== user)
  const positions = others.map(({ user: name, read }) => ({ user: name, delivered: Math.max(read, deliveredTo(name)), read }))
  return positions.sort((a, b) => (a.user < b.user ? -1 : 1))
}

/** As many as fit into a reply, from the first behind `cursor` on; `next` when there are more. */
function pageOf(
  all: readonly Position[],
  cursor: string | undefined,
  bytesOf: (position: Position) => number,
): [Position[], string | undefined] {
  const rest = cursor === undefined ? all : all.filter(({ user }) => user > cursor)
  const page: Position[] = []
  let bytes = frameBytes
  for (const position of rest) {
    bytes += bytesOf(position)
    if (bytes > replyBytesMax) return [page, page.at(-1)?.user]
    page.push(position)
  }
  return [page, undefined]
}

const pairOf = ({ user, delivered, read }: Position): [string, [number, number]] => [user, [delivered, read]]

async function receipts(world: World, caller: Caller, { conv, seq, cursor }: Static<typeof paramsSchema>): Promise<object> {
  const positions = await positionsOfOthers(world, caller, conv)
  if (seq === undefined) {
    const moved = positions.filter(({ delivered }) => delivered > 0)
    const [page, next] = pageOf(moved, cursor, (position) => JSON.stringify(pairOf(position)).length)
    return { receipts: Object.fromEntries(page.map(pairOf)), next }
  }
  const reached = positions.filter(({ delivered }) => delivered >= seq)
  const [page, next] = pageOf(reached, cursor, ({ user }) => user.length + '"",'.length)
  const readers = page.filter(({ read }) => read >= seq).map(({ user }) => user)
  const receivers = page.filter(({ read }) => read < seq).map(({ user }) => user)
  return { seq, read: readers, delivered: receivers, next }
}

export const createReceipts: PluginFactory = ({ store, delivered, signals, bus, logger }) => {
  const world = { store, delivered }
  bus.on(busKind, (bytes) => {
    for (const [user, conv, seq] of JSON.parse(bytes.toString()) as Told) delivered.heard(user, conv, seq)
  })
  let moved = new Map<string, { user: string; conv: ConversationId }>()
  /** In groups nobody is told; the other nodes are, as long as that is not much: else they find it in the store some seconds later. */
  let movedInGroups = new Map<string, Told[number]>()
  let isScheduled = false

  const tell = async (): Promise<void> => {
    const all = [...moved.values()]
    const told: Told = [...movedInGroups.values()]
    moved = new Map()
    movedInGroups = new Map()
    try {
      const positions = await positionsOf(world, all)
      for (const [at, { user, conv }] of all.entries()) told.push([user, conv, positions[at]?.delivered ?? 0])
      if (store.isShared) bus.publish(busKind, Buffer.from(JSON.stringify(told)))
      for (const [at, { user, conv }] of all.entries()) {
        const peer = peerOf(conv, user)
        const event = { type: 'receipt', conv: addressOf(conv, peer), ...(positions[at] as Position) }
        signals.sendPositions(peer, event, { fields: ['delivered', 'read'], everyMs: coalesceMs })
      }
    } catch (error) {
      logger.warn({ err: error }, 'receipts cannot be told')
    }
    isScheduled = false
    if (moved.size + movedInGroups.size > 0) schedule()
  }

  const schedule = (): void => {
    if (isScheduled) return
    isScheduled = true
    setTimeout(() => void tell(), coalesceMs).unref()
  }

  const noteInGroup = (user: string, conv: ConversationId, seq: number): void => {
    if (!store.isShared || movedInGroups.size >= movedInGroupsMax) return
    movedInGroups.set(`${user} ${conv}`, [user, conv, seq])
    schedule()
  }

  const note = (user: string, conv: ConversationId): void => {
    if (isGroup(conv) || peerOf(conv, user) === user) return
    moved.set(`${user} ${conv}`, { user, conv })
    schedule()
  }

  const warmed = new Set<ConversationId>()
  return {
    name: 'receipts',
    start: () =>
      warmUp({ store, logger }, async (user, rows) => {
        for (const { conv, spans } of rows) {
          if (warmed.size >= warmedMax || spans === undefined || spans.at(-1)?.to !== undefined || warmed.has(conv)) continue
          warmed.add(conv)
          await receipts(world, { user, device: '' }, { conv: addressOf(conv, user) })
        }
      }),
    methods: { receipts: method(paramsSchema, (caller, params) => receipts(world, caller, params), resultSchema) },
    onDelivered: (user, conv, seq) => (isGroup(conv) ? noteInGroup(user, conv, seq) : note(user, conv)),
    onRead: note,
  }
}
