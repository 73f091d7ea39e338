/**
 * Several nodes write the same conversations, and hear of each other over a bus that loses, doubles and reorders: what each gives to its
 * sessions is the log, once, in order, with each member in it exactly from the entry that adds him to the one that removes him.
 */

import { deepEqual } from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { LogCheck } from '../broker/cluster/log-check.js'
import { LogFeed } from '../broker/cluster/log-feed.js'
import { LogFollower } from '../broker/cluster/log-follower.js'
import { LogOrder } from '../broker/cluster/log-order.js'
import { Hub } from '../broker/hub.js'
import { createLogger } from '../broker/logger.js'
import type { Frame } from '../broker/mqtt/encode.js'
import type { Outlet, Session } from '../broker/session.js'
import type { ConversationRow, Effect, LogEntry, MemberRecord, Store } from '../broker/store/store.js'
import { groupOf, isGroup, usersOf } from '../broker/topics.js'
import { createRandom, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { calm, UnrulyBuses } from './helper/unruly-bus.js'

const logger = createLogger('silent')
const isEqual = (found: unknown, expected: unknown): boolean => {
  deepEqual(found, expected)
  return true
}

/** The log that all nodes share. */
class SharedLog {
  readonly entries = new Map<string, LogEntry[]>()
  readonly members = new Map<string, MemberRecord[]>()
  isAway = false
  reads = 0
  /** Answers when this resolves, with what was so when it was asked: the rows of a user, or heads. */
  late: ((what: string) => Promise<void> | undefined) | undefined

  of(conv: string): LogEntry[] {
    const entries = this.entries.get(conv) ?? []
    this.entries.set(conv, entries)
    return entries
  }

  append(conv: string, from: string, effects: Effect[] = []): LogEntry {
    const entries = this.of(conv)
    const entry: LogEntry = { seq: entries.length + 1, ts: 1, from, device: '', id: `${entries.length}`, payload: Buffer.alloc(0) }
    entry.payload = Buffer.from(JSON.stringify({ conv, seq: entry.seq }))
    entries.push(entry)
    for (const effect of effects) {
      if (effect.kind !== 'member') continue
      const others = (this.members.get(effect.group) ?? []).filter(({ user }) => user !== effect.record.user)
      this.members.set(effect.group, [...others, effect.record])
    }
    return entry
  }

  rowsOf(user: string): ConversationRow[] {
    const rows: ConversationRow[] = []
    for (const conv of this.entries.keys()) {
      if (!isGroup(conv)) {
        if (usersOf(conv).includes(user)) rows.push({ conv, read: 0, sent: 0 })
        continue
      }
      const member = this.members.get(groupOf(conv))?.find((each) => each.user === user)
      if (member !== undefined) rows.push({ conv, read: 0, sent: 0, spans: structuredClone(member.spans) })
    }
    return rows
  }

  get asStore(): Store {
    const answer = async <Value>(value: () => Value): Promise<Value> => {
      this.reads++
      await turn()
      if (this.isAway) throw new Error('away')
      return value()
    }
    return {
      log: {
        head: (conv: string) => answer(() => this.of(conv).length),
        heads: async (convs: string[]) => {
          const heads = await answer(() => convs.map((conv) => ({ head: this.of(conv).length, ts: 1 })))
          await this.late?.('heads')
          return heads
        },
        read: (conv: string, from: number, to: number, limit: number) =>
          answer(() => this.of(conv).slice(from - 1, Math.min(to, from - 1 + limit))),
      },
      sessions: {
        open: () => answer(() => ({ epoch: 1, stored: undefined })),
        get: () => answer(() => undefined),
        remove: () => answer(() => undefined),
      },
      directory: {
        conversationsOf: async (user: string) => {
          const rows = await answer(() => this.rowsOf(user))
          await this.late?.(user)
          return rows
        },
        member: (group: string, user: string) => answer(() => structuredClone(this.members.get(group)?.find((each) => each.user === user))),
        members: (group: string) => answer(() => structuredClone(this.members.get(group) ?? [])),
      },
    } as unknown as Store
  }
}

/** A client that acknowledges what comes to it. */
class Client implements Outlet {
  readonly unsentBytes = 0
  readonly #heard = new Map<string, number[]>()
  session: Session | undefined

  heard(conv: string): number[] {
    return this.#heard.get(conv) ?? []
  }

  sendFrame({ payload }: Frame, packetId: number): void {
    const { conv, seq } = JSON.parse(payload.toString()) as { conv: string; seq: number }
    this.#heard.set(conv, [...this.heard(conv), seq])
    setImmediate(() => this.session?.acknowledge(packetId))
  }

  sendBytes(bytes: Buffer): void {
    const packetId = bytes.readUInt16BE(4 + bytes.readUInt16BE(2))
    setImmediate(() => this.session?.acknowledge(packetId))
  }

  sendAck(): void {
    throw new Error('nobody sends')
  }

  close(why: string): void {
    throw new Error(why)
  }
}

class Node {
  readonly hub: Hub
  readonly order: LogOrder
  readonly check: LogCheck
  readonly feed: LogFeed
  readonly follower: LogFollower
  recovered = 0
  /** Entries of others that it was told. */
  told = 0
  #devices = 0

  constructor(
    readonly log: SharedLog,
    buses: UnrulyBuses,
    readonly name: string,
  ) {
    const store = log.asStore
    const bus = buses.bus(name)
    this.order = new LogOrder({ store, logger, audience: () => this.hub, observeRecovered: (count) => this.#count(count) })
    this.hub = new Hub({
      store,
      logger,
      positions: this.order,
      limits: { window: 10, socketBytesMax: 1_000_000 },
      backlog: { sessionMax: 1_000, conversationMax: 1_000 },
    })
    this.check = new LogCheck({ store, logger, order: this.order, audience: () => this.hub })
    this.follower = new LogFollower({
      bus,
      order: this.order,
      check: this.check,
      logger,
      learned: () => void this.told++,
      missed: () => undefined,
    })
    this.feed = new LogFeed(bus)
  }

  #count(entries: number): void {
    this.recovered += entries
  }

  async connect(user: string): Promise<Client> {
    const client = new Client()
    const opened = await this.hub.open({ user, device: `${this.name}${this.#devices++}`, persistent: false, outlet: client })
    client.session = opened.session
    this.hub.start(opened)
    return client
  }

  write(conv: string, from: string, effects: Effect[] = []): void {
    const entry = this.log.append(conv, from, effects)
    this.order.offer(conv, entry, effects)
    this.feed.written(conv, entry, effects)
  }

  stop(): void {
    this.order.close()
    this.check.close()
    this.follower.close()
    this.feed.close()
  }
}

function setUp(t: Test, names = ['a', 'b']) {
  const log = new SharedLog()
  const buses = new UnrulyBuses(calm)
  const nodes = names.map((name) => new Node(log, buses, name))
  t.teardown(() => {
    for (const node of nodes) node.stop()
  })
  return { log, buses, nodes: nodes as [Node, Node, ...Node[]] }
}

const all = (from: number, to: number) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)

const added = (group: string, user: string, from: number, before: MemberRecord['spans'] = []): Effect => ({
  kind: 'member',
  group,
  record: { user, role: 'member', spans: [...before, { from }] },
})
const removed = (group: string, user: string, spans: MemberRecord['spans'], to: number): Effect => ({
  kind: 'member',
  group,
  record: { user, role: undefined, spans: spans.map((span, at) => (at === spans.length - 1 ? { ...span, to } : span)) },
})

/** Nothing is told but by frames: no digest, and nobody asks the log because a node is silent. */
function withoutDigests({ buses, nodes }: ReturnType<typeof setUp>): void {
  for (const node of nodes) node.follower.close()
  buses.mood = { ...calm, copies: (kind) => (kind === 'log' ? 1 : 0) }
}

/** What is written is lost for the other nodes. */
async function untold(buses: UnrulyBuses, write: () => void): Promise<void> {
  const { mood } = buses
  buses.mood = { ...mood, copies: () => 0 }
  write()
  await turn()
  await turn()
  buses.mood = mood
}

/** The conversations of this user, or heads, are answered only when the returned function is called. */
function hold(log: SharedLog, held: string): (error?: Error) => void {
  let end = (_error?: Error): void => undefined
  const ended = new Promise<void>((resolve, reject) => (end = (error) => (error === undefined ? resolve() : reject(error))))
  log.late = (what) => (what === held ? ended : undefined)
  return end
}

t.test('what one node writes reaches the sessions of the others, without a read', async (t) => {
  const { log, nodes } = setUp(t)
  const [a, b] = nodes
  const bob = await b.connect('bob')
  const reads = log.reads
  for (let i = 0; i < 10; i++) a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob').length, 10))
  t.equal(log.reads, reads)
})

t.test('what is lost is read from the log: when a later entry comes, and when none does', async (t) => {
  const { buses, nodes } = setUp(t)
  const [a, b] = nodes
  const bob = await b.connect('bob')
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1]))
  buses.mood = { ...calm, copies: () => 0 }
  a.write('u/ann/bob', 'ann')
  a.write('u/bob/carl', 'carl')
  await turn()
  await turn()
  buses.mood = calm
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2, 3]))
  await eventually(() => isEqual(bob.heard('u/bob/carl'), [1]), { timeoutMs: 10_000 })
})

t.test('who was added by an entry that was lost hears the group from that entry on; who was removed, up to it', async (t) => {
  const { buses, nodes } = setUp(t)
  const [a, b] = nodes
  a.write('g/x', 'ann', [added('x', 'ann', 1), added('x', 'carl', 1)])
  const [bob, carl] = [await b.connect('bob'), await b.connect('carl')]
  buses.mood = { ...calm, copies: () => 0 }
  a.write('g/x', 'ann')
  a.write('g/x', 'ann', [added('x', 'bob', 3), removed('x', 'carl', [{ from: 1 }], 3)])
  a.write('g/x', 'ann')
  await turn()
  await turn()
  buses.mood = calm
  await eventually(() => isEqual(bob.heard('g/x'), [3, 4]), { timeoutMs: 10_000 })
  await eventually(() =>
    isEqual(
      carl.heard('g/x').filter((seq) => seq > 1),
      [2, 3],
    ),
  )
})

t.test('what a node wrote before it was killed reaches everybody, though it told nobody', async (t) => {
  const { buses, nodes } = setUp(t)
  const [a, b] = nodes
  const bob = await b.connect('bob')
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1]))
  buses.cut('a')
  a.write('u/ann/bob', 'ann')
  a.write('g/x', 'ann', [added('x', 'bob', 1)])
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2]), { timeoutMs: 20_000 })
  await eventually(() => isEqual(bob.heard('g/x'), [1]))
})

t.test('while no node hears another the log is asked, again and again', async (t) => {
  const { buses, nodes } = setUp(t)
  const [a, b] = nodes
  const bob = await b.connect('bob')
  buses.isUp = false
  buses.mood = { ...calm, copies: () => 0 }
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1]), { timeoutMs: 20_000 })
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2]), { timeoutMs: 20_000 })
})

t.test('the log is asked about everybody, however often it is asked meanwhile', async (t) => {
  const world = setUp(t)
  const { log, buses, nodes } = world
  const [a, b] = nodes
  withoutDigests(world)
  const users = Array.from({ length: 20 }, (_, n) => `u${n}`)
  const clients: Client[] = []
  for (const user of users) clients.push(await b.connect(user))
  await untold(buses, () => {
    for (const user of users) a.write(`u/ann/${user}`, 'ann')
  })
  log.late = (what) => {
    if (what === 'u0' || what === 'u7') b.check.start()
    return undefined
  }
  b.check.start()
  for (const [n, client] of clients.entries()) await eventually(() => isEqual(client.heard(`u/ann/u${n}`), [1]))
  log.late = undefined
})

t.test('what somebody finds in the log reaches the sessions of all nodes, though its writer tells nobody', async (t) => {
  const { log, nodes } = setUp(t, ['a', 'b', 'c'])
  const [a, b, c] = nodes
  const [ann, bob] = [await c?.connect('ann'), await b.connect('bob')]
  log.append('u/ann/bob', 'ann')
  a.order.reached('u/ann/bob', 1)
  a.feed.found('u/ann/bob', 1)
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1]), { timeoutMs: 20_000 })
  await eventually(() => isEqual(ann?.heard('u/ann/bob'), [1]), { timeoutMs: 20_000 })
})

t.test('a store that is away keeps nothing from arriving later', async (t) => {
  const { buses, log, nodes } = setUp(t)
  const [a, b] = nodes
  const bob = await b.connect('bob')
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1]))
  buses.mood = { ...calm, copies: (kind) => (kind === 'log' ? 0 : 1) }
  a.write('u/ann/bob', 'ann')
  await turn()
  await turn()
  buses.mood = calm
  log.isAway = true
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(b.order.gaps, 1))
  log.isAway = false
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2, 3]), { timeoutMs: 10_000 })
  t.equal(b.order.gaps, 0)
})

t.test('a session that opens while entries are on their way gets them once: from the log or live', async (t) => {
  const { nodes } = setUp(t)
  const [a, b] = nodes
  a.write('u/ann/bob', 'ann')
  await b.connect('bob')
  const opened: { client: Client; head: number }[] = []
  for (let i = 0; i < 30; i++) {
    a.write('u/ann/bob', 'ann')
    if (i % 3 === 0) void b.connect('bob').then((client) => opened.push({ client, head: a.log.of('u/ann/bob').length }))
    await turn()
  }
  await eventually(() => opened.length === 10)
  for (const { client, head } of opened) {
    await eventually(() => client.heard('u/ann/bob').at(-1) === 31)
    const heard = client.heard('u/ann/bob')
    const first = heard[0] as number
    t.ok(first <= head + 1, 'nothing after the connect is missing')
    t.same(heard, all(first, 31))
  }
})

/** Bob connects to the second node, and what is read of his conversations is on its way. */
async function holdBob(t: Test) {
  const world = setUp(t)
  const { log, nodes } = world
  withoutDigests(world)
  const release = hold(log, 'bob')
  const reads = log.reads
  const opening = nodes[1].connect('bob')
  await eventually(() => isEqual(log.reads, reads + 2))
  await turn()
  return { world, opening, release }
}

t.test('a conversation that came to be while the conversations of a session were read is for it, from its first entry on', async (t) => {
  const { world, opening, release } = await holdBob(t)
  const { buses, nodes } = world
  const [a, b] = nodes
  await untold(buses, () => a.write('u/ann/bob', 'ann'))
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(b.told, 1))
  release()
  const bob = await opening
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2]))
})

t.test('the same when it is the other user whose session has shown meanwhile where it stands', async (t) => {
  const { world, opening, release } = await holdBob(t)
  const { buses, nodes } = world
  const [a, b] = nodes
  await untold(buses, () => {
    a.write('u/ann/bob', 'ann')
    a.write('u/ann/bob', 'ann')
  })
  await b.connect('ann')
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(b.told, 1))
  release()
  const bob = await opening
  await eventually(() => isEqual(bob.heard('u/ann/bob'), [1, 2, 3]))
})

t.test('who was said to be added while his conversations were read hears the group', async (t) => {
  const { world, opening, release } = await holdBob(t)
  const { buses, nodes } = world
  const [a, b] = nodes
  await untold(buses, () => a.write('g/x', 'ann', [added('x', 'ann', 1), added('x', 'bob', 1)]))
  b.order.reached('g/x', 1, ['bob'])
  release()
  const bob = await opening
  await eventually(() => isEqual(bob.heard('g/x'), [1]))
})

t.test('what was heard while a session opened that came to nothing is not forgotten', async (t) => {
  const world = setUp(t)
  const { log, buses, nodes } = world
  const [a, b] = nodes
  withoutDigests(world)
  const ann = await b.connect('ann')
  await untold(buses, () => a.write('u/ann/bob', 'ann'))
  const end = hold(log, 'heads')
  const reads = log.reads
  const opening = b.connect('bob')
  await eventually(() => isEqual(log.reads, reads + 3))
  a.write('u/ann/bob', 'ann')
  await eventually(() => isEqual(b.told, 1))
  log.late = undefined
  end(new Error('away'))
  await t.rejects(opening)
  await eventually(() => isEqual(ann.heard('u/ann/bob'), [1, 2]))
})

t.test('random: three nodes, members that come and go, a bus that loses, doubles and reorders', async (t) => {
  const seed = newSeed()
  const below = createRandom(seed)
  const random = () => below(1_000_000) / 1_000_000
  t.comment(`seed ${seed}`)
  const { log, buses, nodes } = setUp(t, ['a', 'b', 'c'])
  const users = ['u0', 'u1', 'u2', 'u3', 'u4', 'u5']
  const clients: { user: string; client: Client }[] = []
  for (const [at, user] of users.entries()) clients.push({ user, client: await (nodes[at % 3] as Node).connect(user) })
  // A second device of some, on another node.
  for (const user of ['u1', 'u4']) clients.push({ user, client: await nodes[0].connect(user) })
  buses.mood = { copies: () => (random() < 0.2 ? 0 : random() < 0.2 ? 2 : 1), lateMs: () => random() * 15 }
  const directs = ['u/u0/u1', 'u/u1/u2', 'u/u3/u3']
  const spansOf = (user: string) => log.members.get('x')?.find((each) => each.user === user)?.spans ?? []
  for (let i = 0; i < 400; i++) {
    const node = nodes[Math.floor(random() * 3)] as Node
    const seq = log.of('g/x').length + 1
    const user = users[Math.floor(random() * users.length)] as string
    const direct = directs[Math.floor(random() * 3)] as string
    const roll = random()
    if (roll < 0.4) node.write(direct, usersOf(direct)[0])
    else if (roll < 0.8) node.write('g/x', 'u0')
    else {
      const spans = spansOf(user)
      const isIn = spans.length > 0 && spans.at(-1)?.to === undefined
      node.write('g/x', 'u0', [isIn ? removed('x', user, spans, seq) : added('x', user, seq, spans)])
    }
    if (random() < 0.3) await turn()
  }
  buses.mood = calm
  for (const { user, client } of clients) {
    for (const conv of directs.filter((each) => usersOf(each).includes(user))) {
      await eventually(() => isEqual(client.heard(conv), all(1, log.of(conv).length)), { timeoutMs: 20_000 })
    }
    const expected = spansOf(user).flatMap(({ from, to }) => all(from, to ?? log.of('g/x').length))
    await eventually(() => isEqual(client.heard('g/x'), expected), { timeoutMs: 20_000 })
  }
  t.ok(
    nodes.some(({ recovered }) => recovered > 0),
    'the test lost something',
  )
})
