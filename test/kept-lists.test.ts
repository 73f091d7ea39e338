/** Lists that a node keeps: at any time what the store would say, as long as every change was told or doubted. */
import t, { type Test } from 'tap'
import type { Bus } from '../broker/bus.js'
import { KeptLists } from '../broker/cluster/kept-lists.js'
import { StoredLists } from '../broker/lists.js'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import type { Effect, RowAtHead, Span, Store } from '../broker/store/store.js'
import { groupOf, isGroup } from '../broker/topics.js'
import { append, entry } from './contract/entries.js'
import { seeded } from './helper/stage.js'

const logger = createLogger('silent')

interface Node {
  store: Store
  bus: { isUp: boolean; caughtUp(): Promise<void> }
  lists: KeptLists
  hearsAll: boolean
  /** Lists of all conversations that were read. */
  reads: number
  nowMs: number
  writes(conv: string, from: string, told?: 'told' | 'untold', membership?: { user: string; spans: Span[] }): Promise<void>
}

async function openNode(t: Test): Promise<Node> {
  const real = await createLmdbStore({ dir: t.testdir(), logger })
  t.teardown(() => real.close())
  let ts = 1_000
  const node: Node = {
    store: {
      ...real,
      log: real.log,
      directory: Object.assign(Object.create(real.directory), {
        conversationsOf: (user: string) => real.directory.conversationsOf(user),
        conversationsAtHead(user: string, convs?: readonly string[]) {
          if (convs === undefined) node.reads++
          return real.directory.conversationsAtHead(user, convs)
        },
      }),
    },
    bus: { isUp: true, caughtUp: async () => undefined },
    lists: undefined as never,
    hearsAll: true,
    reads: 0,
    nowMs: 0,
    async writes(conv, from, told = 'told', membership) {
      const head = await real.log.head(conv)
      const effects: Effect[] = []
      if (isGroup(conv) && head === 0)
        effects.push({ kind: 'group', record: { group: groupOf(conv), name: conv, createdTs: 1, membersMax: 9 } })
      if (membership !== undefined) {
        const role = membership.spans.at(-1)?.to === undefined ? ('member' as const) : undefined
        effects.push({ kind: 'member', group: groupOf(conv), record: { role, ...membership } })
      }
      await real.log.append([append(conv, head, [{ ...entry(head + 1, from), ts: ++ts }], { effects })])
      if (told === 'told') node.lists.changed(conv, effects)
    },
  }
  node.lists = new KeptLists({
    store: node.store,
    bus: node.bus as unknown as Bus,
    hearsAll: () => node.hearsAll,
    now: () => node.nowMs,
  })
  return node
}

const namesOf = (rows: readonly RowAtHead[]): string[] => rows.map(({ conv, head, ts }) => `${conv} ${head} ${ts}`)

async function isRight(t: Test, node: Node, user = 'alice'): Promise<void> {
  const { store, lists } = node
  const list = await lists.of(user)
  const { reads } = node
  const wanted = await new StoredLists(store).of(user)
  node.reads = reads
  t.same(namesOf(list.rows), namesOf(wanted.rows))
  const convs = list.rows.map(({ conv }) => conv)
  t.same(await list.current(list.rows), await store.directory.conversationsAtHead(user, convs))
}

t.test('what is told moves in a list that is kept; what was doubted is read again', async (t) => {
  const node = await openNode(t)
  const kept = async (what: string): Promise<void> => {
    await node.lists.of('alice')
    const { reads } = node
    await node.lists.of('alice')
    t.equal(node.reads, reads, `${what}: not read again`)
  }
  const reread = async (what: string): Promise<void> => {
    const { reads } = node
    await node.lists.of('alice')
    t.equal(node.reads, reads + 1, `${what}: read again`)
  }
  await node.writes('u/alice/bob', 'bob')
  await node.writes('u/alice/carol', 'carol')
  await node.writes('g/team', 'bob', 'told', { user: 'alice', spans: [{ from: 1 }] })
  await isRight(t, node)
  await kept('at rest')
  for (const [conv, from, membership] of [
    ['u/alice/bob', 'alice', undefined],
    ['u/al/alice', 'al', undefined],
    ['u/bob/carol', 'bob', undefined],
    ['g/team', 'bob', undefined],
    ['g/new', 'bob', { user: 'alice', spans: [{ from: 1 }] }],
    ['g/team', 'alice', { user: 'alice', spans: [{ from: 1, to: 3 }] }],
    ['g/team', 'bob', undefined],
  ] as const) {
    await node.writes(conv, from, 'told', membership && { user: membership.user, spans: [...membership.spans] })
    await isRight(t, node)
    await kept(`${from} in ${conv}`)
  }
  await node.writes('u/alice/carol', 'carol', 'untold')
  node.lists.doubted()
  await isRight(t, node)
  await kept('after a doubt')
  node.bus.isUp = false
  await reread('the bus is down')
  node.bus.isUp = true
  node.hearsAll = false
  await reread('a node is silent')
  node.hearsAll = true
  node.bus.caughtUp = () => Promise.reject(new Error('no answer'))
  await reread('nobody knows what is on its way')
  node.bus.caughtUp = async () => undefined
  await kept('all is well')
  node.nowMs += 60_000
  await reread('after a minute')
})

t.test('what is on its way on the bus is waited for, and what comes while a list is read is not lost', async (t) => {
  const node = await openNode(t)
  await node.writes('u/alice/bob', 'bob')
  await node.writes('u/alice/carol', 'carol')
  await node.lists.of('alice')
  await node.writes('u/alice/bob', 'bob', 'untold')
  node.bus.caughtUp = async () => node.lists.changed('u/alice/bob', [])
  t.equal((await node.lists.of('alice')).rows[0]?.conv, 'u/alice/bob')
  node.bus.caughtUp = async () => undefined

  node.lists.doubted()
  const { directory } = node.store
  const read = directory.conversationsAtHead.bind(directory)
  directory.conversationsAtHead = async (...asked) => {
    directory.conversationsAtHead = read
    const rows = await read(...asked)
    await node.writes('u/alice/carol', 'carol')
    return rows
  }
  await node.lists.of('alice')
  t.equal((await node.lists.of('alice')).rows[0]?.conv, 'u/alice/carol')
  directory.conversationsAtHead = async (...asked) => {
    directory.conversationsAtHead = read
    const rows = await read(...asked)
    await node.writes('u/alice/bob', 'bob', 'untold')
    node.lists.doubted()
    return rows
  }
  node.lists.doubted()
  await node.lists.of('alice')
  await isRight(t, node)
})

t.test('a list that was read elsewhere, as for a connect, is not read again', async (t) => {
  const node = await openNode(t)
  const { store, lists } = node
  for (let peer = 0; peer < 250; peer++) await node.writes(`u/alice/p${peer}`, 'alice')
  await node.writes('g/team', 'bob', 'told', { user: 'alice', spans: [{ from: 1 }] })
  await node.writes('g/team', 'bob', 'told', { user: 'alice', spans: [{ from: 1, to: 2 }] })
  await node.writes('g/team', 'bob')
  const isRead = lists.reading('alice')
  const rows = await store.directory.conversationsOf('alice')
  await node.writes('u/alice/p7', 'p7')
  isRead(rows, await store.log.heads(rows.map(({ conv }) => conv)))
  await node.writes('u/alice/p9', 'p9')
  await isRight(t, node)
  await isRight(t, node)
  t.equal(node.reads, 0)
  const isDoubted = lists.reading('alice')
  await node.writes('u/alice/p11', 'p11', 'untold')
  lists.doubted()
  isDoubted(rows, await store.log.heads(rows.map(({ conv }) => conv)))
  await isRight(t, node)
  t.equal(node.reads, 1, 'what was read before a doubt is not believed')
})

t.test('random histories', async (t) => {
  const random = seeded(t)
  const node = await openNode(t)
  const spans = new Map<string, Span[]>()
  const users = ['alice', 'bob', 'carol']
  for (let step = 0; step < 400; step++) {
    const user = users[random.below(users.length)] as string
    const told = random.below(20) === 0 ? 'untold' : 'told'
    if (random.below(3) > 0) {
      const peer = `p${random.below(30)}`
      await node.writes(`u/${user}/${peer}`, random.below(2) === 0 ? user : peer, told)
    } else {
      const conv = `g/${random.below(4)}`
      const own = spans.get(`${conv} ${user}`) ?? []
      const seq = (await node.store.log.head(conv)) + 1
      const change = random.below(3) === 0
      if (change) {
        const last = own.at(-1)
        if (last === undefined || last.to !== undefined) own.push({ from: seq })
        else last.to = seq
        spans.set(`${conv} ${user}`, own)
      }
      await node.writes(conv, user, told, change ? { user, spans: own.map((span) => ({ ...span })) } : undefined)
    }
    if (told === 'untold') node.lists.doubted()
    if (random.below(3) === 0) await isRight(t, node, users[random.below(users.length)])
  }
  t.ok(node.reads < 80, `${node.reads} times all was read`)
})
