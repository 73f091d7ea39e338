/**
 * The delivery rule of one session, with a log in memory and an outlet that records: order, window, the socket's bound, what
 * goes to the log's side and comes back from it, cursors, and the `ready` that ends a backlog.
 */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { Frame } from '../broker/mqtt/encode.js'
import { mergeRanges, type Outlet, Session, type SessionWorld } from '../broker/session.js'
import type { LogEntry } from '../broker/store/store.js'
import type { StoredAck } from '../broker/stored-ack.js'
import { deliveryTopic } from '../broker/topics.js'
import { createRandom, newSeed } from './contract/entries.js'

class FakeOutlet implements Outlet {
  unsentBytes = 0
  readonly sent: { packetId: number; conv: string; seq: number }[] = []
  readonly events: Record<string, unknown>[] = []
  /** Places of the events among the messages. */
  readonly eventsAt: number[] = []
  /** Packet ids of all, in order; what was acknowledged is taken off. */
  readonly unacked: number[] = []

  sendFrame(frame: Frame, packetId: number): void {
    this.unacked.push(packetId)
    const payload = frame.payload.toString()
    this.sent.push({ packetId, ...(JSON.parse(payload) as { conv: string; seq: number }) })
  }
  sendAck(ack: StoredAck): void {
    const bytes = Buffer.alloc(ack.length)
    ack.writeTo(bytes, 0)
    this.sendBytes(bytes)
  }

  sendBytes(bytes: Buffer): void {
    this.unacked.push(packetIdOf(bytes))
    const text = bytes.toString()
    this.events.push(JSON.parse(text.slice(text.indexOf('{'))) as Record<string, unknown>)
    this.eventsAt.push(this.sent.length)
  }
  close(): void {
    throw new Error('closed')
  }
  seqs(conv: string): number[] {
    return this.sent.filter((each) => each.conv === conv).map(({ seq }) => seq)
  }
}

function packetIdOf(publish: Buffer): number {
  const topicAt = (publish[1] as number) < 0x80 ? 2 : 3
  return publish.readUInt16BE(topicAt + 2 + publish.readUInt16BE(topicAt))
}

class FakeWorld implements SessionWorld {
  readonly limits = { window: 4, socketBytesMax: 1_000 }
  readonly log = new Map<string, LogEntry[]>()
  reads = 0
  failures: unknown[] = []
  moved = 0
  /** Entries that one read gives at most. */
  readMax = 3

  async read(conv: string, from: number, to: number, limit: number): Promise<LogEntry[]> {
    this.reads++
    await turn()
    return (this.log.get(conv) ?? []).slice(from - 1, Math.min(to, from - 1 + Math.min(limit, this.readMax)))
  }
  failed(_session: Session, error: unknown): void {
    this.failures.push(error)
  }
  cursorMoved(): void {
    this.moved++
  }
  replayed(): void {
    this.moved += 0
  }
  /** Stores an entry and gives it to the session as the hub does. */
  store(session: Session | undefined, conv: string, from = 'bob', device = 'tab'): number {
    const entries = this.log.get(conv) ?? []
    this.log.set(conv, entries)
    const seq = entries.length + 1
    const payload = Buffer.from(JSON.stringify({ seq, conv }))
    entries.push({ seq, ts: 1, from, device, id: `${seq}`, payload })
    if (session === undefined) return seq
    if (from === session.user && device === session.device) session.offerOwn(conv, seq)
    else session.offer(conv, seq, new Frame(deliveryTopic(conv, session.user), payload))
    return seq
  }
}

function setUp(persistent = true) {
  const world = new FakeWorld()
  const outlet = new FakeOutlet()
  const session = new Session('me', 'phone', persistent, outlet, world)
  return { world, outlet, session }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await turn()
}

/** Acknowledges all that was sent until nothing more comes. */
async function drain(session: Session, outlet: FakeOutlet): Promise<void> {
  do {
    acknowledge(session, outlet)
    await settle()
  } while (outlet.unacked.length > 0)
}

function acknowledge(session: Session, outlet: FakeOutlet, count = outlet.unacked.length): void {
  for (const packetId of outlet.unacked.splice(0, count)) session.acknowledge(packetId)
}

const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i)

t.test('what has room is sent at once, the rest from the log', async (t) => {
  const { world, outlet, session } = setUp()
  session.start(new Map(), {}, undefined)
  for (let i = 0; i < 10; i++) world.store(session, 'g/x')
  t.same(outlet.seqs('g/x'), upTo(4), 'the window')
  t.equal(world.reads, 0)
  await drain(session, outlet)
  t.same(outlet.seqs('g/x'), upTo(10))
  t.equal(session.behind, undefined)
  world.store(session, 'g/x')
  t.same(outlet.seqs('g/x'), upTo(11), 'it is level again')
  t.equal(session.cursors?.get('g/x'), 10)
})

t.test('what it is told to have missed while it reads comes too, before what is behind it', async (t) => {
  const { world, outlet, session } = setUp()
  for (let i = 0; i < 12; i++) world.store(undefined, 'g/x')
  session.start(new Map([['g/x', [{ next: 7, last: 9 }]]]), {}, undefined)
  session.missed('g/x', [{ next: 11, last: 12 }])
  await settle()
  acknowledge(session, outlet, 1)
  session.missed('g/x', [{ next: 2, last: 3 }])
  await drain(session, outlet)
  t.same(
    outlet.seqs('g/x').toSorted((one, other) => one - other),
    [2, 3, 7, 8, 9, 11, 12],
  )
  t.equal(session.behind, undefined)
  t.same(world.failures, [])
})

t.test('what was missed of a conversation that has only begun is nothing', async (t) => {
  const { world, outlet, session } = setUp()
  session.missed('g/x', [{ next: 1, last: 0 }])
  session.start(new Map(), {}, undefined)
  session.missed('g/y', [{ next: 1, last: 0 }])
  t.equal(session.behind, undefined)
  world.store(session, 'g/x')
  await settle()
  t.same(outlet.seqs('g/x'), [1])
  t.same(world.failures, [])
})

t.test('a full socket stops it, and draining starts it again', async (t) => {
  const { world, outlet, session } = setUp()
  session.start(new Map(), {}, undefined)
  outlet.unsentBytes = 1_000
  world.store(session, 'g/x')
  session.pump()
  await settle()
  t.same(outlet.sent, [])
  outlet.unsentBytes = 0
  session.pump()
  await settle()
  t.same(outlet.seqs('g/x'), [1])
})

t.test('messages that come while the log is read keep their place', async (t) => {
  const { world, outlet, session } = setUp()
  world.limits.window = 1_000
  session.start(new Map(), {}, undefined)
  outlet.unsentBytes = 1_000
  for (let i = 0; i < 8; i++) world.store(session, 'g/x')
  outlet.unsentBytes = 0
  session.pump()
  for (let i = 0; i < 20; i++) {
    world.store(session, 'g/x')
    await turn()
  }
  await settle()
  t.same(outlet.seqs('g/x'), upTo(28))
})

t.test('ready ends the backlog, and all that its heads name has been sent before', async (t) => {
  const { world, outlet, session } = setUp()
  for (let i = 0; i < 6; i++) world.store(undefined, 'g/x')
  world.store(session, 'g/x')
  world.store(session, 'u/bob/me')
  t.same(outlet.sent, [], 'nothing flows before start')
  session.start(new Map([['g/x', [{ next: 3, last: 7 }]]]), { 'g/x': 7, 'u/bob': 1 }, undefined)
  await drain(session, outlet)
  t.same(outlet.seqs('g/x'), upTo(7, 3))
  t.same(outlet.events, [{ type: 'ready', replayed: 6, heads: { 'g/x': 7, 'u/bob': 1 } }])
  t.same(outlet.eventsAt, [6])
})

t.test('a clean session that was overtaken while loading is ready only when it has caught up', async (t) => {
  const { world, outlet, session } = setUp(false)
  for (let i = 0; i < 3; i++) world.store(session, 'g/x')
  for (let i = 0; i < 3; i++) world.store(session, 'g/y')
  session.start(new Map(), { 'g/x': 3, 'g/y': 3 }, undefined)
  await drain(session, outlet)
  t.same(outlet.eventsAt, [6])
})

t.test('while it loads it says nothing at all: CONNACK must be the first', async (t) => {
  const { world, outlet, session } = setUp()
  t.equal(session.sendEvent({ type: 'receipt' }), 0)
  session.sendSignal('u/me/typing', '{}')
  session.sendStoredAck('id', 'u/ann', 1, 1, false)
  world.store(session, 'g/x')
  t.same([outlet.events, outlet.sent], [[], []])
  session.start(new Map(), {}, undefined)
  await drain(session, outlet)
  t.same([outlet.seqs('g/x'), outlet.events.map(({ type }) => type)], [[1], ['ready']])
})

t.test('ready comes at once when nothing is owed', async (t) => {
  const { outlet, session } = setUp()
  session.start(new Map(), {}, { 'g/x': [1, 2] })
  t.same(outlet.events, [{ type: 'ready', replayed: 0, heads: {}, truncated: { 'g/x': [1, 2] } }])
})

t.test('a cursor does not pass what was cut before ready, which names it, is acknowledged', async (t) => {
  const { world, outlet, session } = setUp()
  for (let i = 0; i < 5; i++) world.store(undefined, 'g/x')
  world.store(session, 'g/y')
  session.start(new Map([['g/x', [{ next: 3, last: 5 }]]]), {}, { 'g/x': [1, 2] })
  await settle()
  acknowledge(session, outlet, outlet.unacked.length - 1)
  await settle()
  t.same(outlet.eventsAt, [4])
  t.equal(session.cursors?.get('g/x'), undefined, 'a session that ends here comes back before the cut')
  t.equal(session.cursors?.get('g/y'), 1, 'others move')
  acknowledge(session, outlet)
  t.equal(session.cursors?.get('g/x'), 5)
  world.store(session, 'g/x')
  acknowledge(session, outlet)
  t.equal(session.cursors?.get('g/x'), 6)
})

t.test('own messages are not sent back, and the cursor passes them in order', async (t) => {
  const { world, outlet, session } = setUp()
  session.start(new Map(), {}, undefined)
  acknowledge(session, outlet)
  world.store(session, 'g/x', 'me', 'phone')
  t.equal(session.cursors?.get('g/x'), 1)
  world.store(session, 'g/x')
  world.store(session, 'g/x', 'me', 'phone')
  t.equal(session.cursors?.get('g/x'), 1, 'message 2 is not acknowledged')
  acknowledge(session, outlet)
  t.equal(session.cursors?.get('g/x'), 3)
  world.store(session, 'g/x', 'me', 'tab')
  t.same(outlet.seqs('g/x'), [2, 4], "another device's message comes")
})

t.test('a log that lost an entry fails the session instead of leaving it out', async (t) => {
  const { world, session } = setUp()
  session.start(new Map([['g/x', [{ next: 1, last: 2 }]]]), {}, undefined)
  await settle()
  t.match(world.failures, [/the log of g\/x has no entry 1/])
})

t.test('one PUBACK withheld for ever does not let memory grow, and all comes in the end', async (t) => {
  const { world, outlet, session } = setUp()
  session.start(new Map(), {}, undefined)
  world.store(session, 'g/x')
  const own = 60_000
  for (let i = 0; i < own; i++) world.store(session, 'g/x', 'me', 'phone')
  t.ok(session.inFlight.size <= 32_767, `${session.inFlight.size} packets in flight`)
  world.store(session, 'g/x')
  world.readMax = 10_000
  for (; session.behind !== undefined || outlet.unacked.length > 0; await turn()) acknowledge(session, outlet)
  t.same(outlet.seqs('g/x'), [1, own + 2])
  t.equal(session.cursors?.get('g/x'), own + 2)
})

t.test('conversations take turns', async (t) => {
  const { world, outlet, session } = setUp()
  world.limits.window = 1_000
  for (let i = 0; i < 30; i++) for (const conv of ['g/x', 'g/y']) world.store(undefined, conv)
  session.start(
    new Map([
      ['g/x', [{ next: 1, last: 30 }]],
      ['g/y', [{ next: 1, last: 30 }]],
    ]),
    {},
    undefined,
  )
  await settle()
  t.ok(outlet.sent.findIndex(({ conv }) => conv === 'g/y') < 30)
  t.same([outlet.seqs('g/x'), outlet.seqs('g/y')], [upTo(30), upTo(30)])
})

t.test('ranges are merged', async (t) => {
  t.same(mergeRanges([{ next: 1, last: 3 }], [{ next: 4, last: 5 }]), [{ next: 1, last: 5 }])
  t.same(mergeRanges([{ next: 1, last: 3 }], [{ next: 2, last: 2 }]), [{ next: 1, last: 3 }])
  t.same(mergeRanges([{ next: 4, last: 3 }], [{ next: 9, last: 9 }]), [{ next: 9, last: 9 }])
  t.same(mergeRanges([{ next: 15, last: 20 }], [{ next: 5, last: 10 }]), [
    { next: 5, last: 10 },
    { next: 15, last: 20 },
  ])
  t.same(mergeRanges([{ next: 1, last: 3 }], [{ next: 5, last: 6 }]), [
    { next: 1, last: 3 },
    { next: 5, last: 6 },
  ])
})

t.test('at random: every message once, in order, whatever the client does', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let round = 0; round < 60; round++) {
    const { world, outlet, session } = setUp(random(2) === 0)
    world.limits.window = 1 + random(8)
    world.readMax = 1 + random(5)
    const convs = ['g/x', 'g/y', 'u/bob/me']
    const own = new Set<string>()
    session.start(new Map(), {}, undefined)
    for (let step = 0; step < 300; step++) {
      const choice = random(10)
      const conv = convs[random(convs.length)] as string
      if (choice < 5) world.store(session, conv)
      else if (choice === 5) own.add(`${conv} ${world.store(session, conv, 'me', 'phone')}`)
      else if (choice < 8) acknowledge(session, outlet, random(4))
      else if (choice === 8) {
        outlet.unsentBytes = random(2) === 0 ? 0 : 1_000
        session.pump()
      } else await turn()
      if (session.inFlight.messages > world.limits.window) return t.fail('more in flight than the window allows')
    }
    outlet.unsentBytes = 0
    session.pump()
    for (let idle = 0; idle < 20; await turn()) {
      idle = outlet.unacked.length > 0 ? 0 : idle + 1
      acknowledge(session, outlet)
    }
    for (const conv of convs) {
      const expected = upTo(world.log.get(conv)?.length ?? 0).filter((seq) => !own.has(`${conv} ${seq}`))
      if (outlet.seqs(conv).join() !== expected.join()) return t.same(outlet.seqs(conv), expected, `${conv} in round ${round}`)
    }
    t.same(world.failures, [])
  }
})
