/**
 * Who hears what, and which cursors are kept: the hub on a store in memory whose answers can be held back, so that what happens
 * between a connect and its end can be put in any order.
 */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { Hub, type OpenedSession } from '../broker/hub.js'
import { createLogger } from '../broker/logger.js'
import type { Frame } from '../broker/mqtt/encode.js'
import type { Outlet } from '../broker/session.js'
import type { ConversationRow, Effect, LogEntry, SessionRecord, Span, Store } from '../broker/store/store.js'
import { StoreUnavailable } from '../broker/store/store.js'
import type { StoredAck } from '../broker/stored-ack.js'
import { eventually } from './helper/eventually.js'

class FakeStore {
  readonly entries = new Map<string, LogEntry[]>()
  readonly rows = new Map<string, ConversationRow[]>()
  readonly stored = new Map<string, { record: SessionRecord; cursors: Map<string, number> }>()
  saves: string[][] = []
  epoch = 0
  /** Awaited before a session is read, created, or removed. */
  gate: (call: string) => Promise<void> = async () => undefined
  failingSaves = 0

  of(conv: string): LogEntry[] {
    const entries = this.entries.get(conv) ?? []
    this.entries.set(conv, entries)
    return entries
  }

  get asStore(): Store {
    const key = (user: string, device: string) => `${user}/${device}`
    return {
      log: {
        heads: async (convs: string[]) => convs.map((conv) => ({ head: this.of(conv).length, ts: this.of(conv).length })),
        read: async (conv: string, from: number, to: number, limit: number) =>
          this.of(conv).slice(from - 1, Math.min(to, from - 1 + limit)),
      },
      directory: { conversationsOf: async (user: string) => (this.rows.get(user) ?? []).map((row) => structuredClone(row)) },
      sessions: {
        open: async (user: string, device: string) => {
          await this.gate('open')
          return { epoch: ++this.epoch, stored: this.stored.get(key(user, device))?.record }
        },
        cursors: async (user: string, device: string) => new Map(this.stored.get(key(user, device))?.cursors),
        create: async (record: SessionRecord, cursors: Map<string, number>) => {
          await this.gate('create')
          this.stored.set(key(record.user, record.device), { record, cursors: new Map(cursors) })
        },
        saveCursors: async (moved: { user: string; device: string; conv: string; seq: number }[]) => {
          await turn()
          if (this.failingSaves-- > 0) throw new StoreUnavailable('away')
          this.saves.push(moved.map(({ user, conv, seq }) => `${user} ${conv} ${seq}`))
          for (const { user, device, conv, seq } of moved) this.stored.get(key(user, device))?.cursors.set(conv, seq)
        },
        remove: async (user: string, device: string) => {
          await this.gate('remove')
          this.stored.delete(key(user, device))
        },
      },
    } as unknown as Store
  }
}

class FakeOutlet implements Outlet {
  readonly unsentBytes = 0
  readonly sent: { packetId: number; conv: string; seq: number }[] = []
  readonly events: number[] = []
  why: string | undefined

  sendFrame(frame: Frame, packetId: number): void {
    this.sent.push({ packetId, ...(JSON.parse(frame.payload.toString()) as { conv: string; seq: number }) })
  }
  sendAck(ack: StoredAck): void {
    const bytes = Buffer.alloc(ack.length)
    ack.writeTo(bytes, 0)
    this.sendBytes(bytes)
  }

  sendBytes(bytes: Buffer): void {
    this.events.push(bytes.readUInt16BE(4 + bytes.readUInt16BE(2)))
  }
  close(why: string): void {
    this.why = why
  }
  seqs(conv: string): number[] {
    return this.sent.filter((each) => each.conv === conv).map(({ seq }) => seq)
  }
}

function setUp() {
  const store = new FakeStore()
  const hub = new Hub({
    store: store.asStore,
    logger: createLogger('silent'),
    limits: { window: 100, socketBytesMax: 1_000_000 },
    backlog: { sessionMax: 1_000, conversationMax: 1_000 },
  })
  const open = async (user: string, { device = 'phone', persistent = false } = {}): Promise<OpenedSession & { outlet: FakeOutlet }> => {
    const outlet = new FakeOutlet()
    const opened = await hub.open({ user, device, persistent, outlet })
    return { ...opened, outlet }
  }
  const start = async (...args: Parameters<typeof open>) => {
    const opened = await open(...args)
    hub.start(opened)
    for (const id of opened.outlet.events) opened.session.acknowledge(id)
    return opened
  }
  /** Stores an entry with its effects, and dispatches it. */
  const store_ = (conv: string, from: string, effects: Effect[] = [], device = 'tab'): number => {
    const entries = store.of(conv)
    const seq = entries.length + 1
    const entry = { seq, ts: seq, from, device, id: `${seq}`, payload: Buffer.from(JSON.stringify({ seq, conv })) }
    entries.push(entry)
    for (const effect of effects) if (effect.kind === 'member') putRow(store, effect.record.user, conv, effect.record.spans)
    hub.dispatch(conv, entry, effects)
    return seq
  }
  return { store, hub, open, start, send: store_ }
}

function putRow(store: FakeStore, user: string, conv: string, spans: Span[] | undefined): void {
  const rows = (store.rows.get(user) ?? []).filter((row) => row.conv !== conv)
  store.rows.set(user, [...rows, { conv, read: 0, sent: 0, ...(spans === undefined ? {} : { spans }) }])
}

const joins = (user: string, from: number, before: Span[] = []): Effect => ({
  kind: 'member',
  group: 'x',
  record: { user, role: 'member', spans: [...before, { from }] },
})
const leaves = (user: string, from: number, to: number): Effect => ({
  kind: 'member',
  group: 'x',
  record: { user, role: undefined, spans: [{ from, to }] },
})

t.test('a direct message reaches all sessions of both users but the one that sent it', async (t) => {
  const { start, send } = setUp()
  const [phone, tab, bob, carol] = await Promise.all([start('ann'), start('ann', { device: 'tab' }), start('bob'), start('carol')])
  send('u/ann/bob', 'ann', [], 'tab')
  send('u/ann/ann', 'ann', [], 'tab')
  t.same(phone?.outlet.seqs('u/ann/bob'), [1])
  t.same(phone?.outlet.seqs('u/ann/ann'), [1], 'a note to oneself, once')
  t.same(tab?.outlet.sent, [])
  t.same(bob?.outlet.sent.length, 1)
  t.same(carol?.outlet.sent, [])
})

t.test('members hear from the entry that adds them to the entry that removes them', async (t) => {
  const { start, send } = setUp()
  const bob = await start('bob')
  send('g/x', 'ann', [joins('ann', 1)])
  send('g/x', 'ann', [joins('bob', 2)])
  send('g/x', 'ann')
  send('g/x', 'ann', [leaves('bob', 2, 4)])
  send('g/x', 'ann')
  send('g/x', 'ann', [joins('bob', 6, [{ from: 2, to: 4 }])])
  send('g/x', 'ann')
  t.same(bob.outlet.seqs('g/x'), [2, 3, 4, 6, 7])
})

t.test('membership that changes while a session is opened', async (t) => {
  const { store, hub, open, send } = setUp()
  send('g/x', 'ann', [joins('ann', 1), joins('bob', 1)])
  send('g/y', 'ann')
  let release = (): void => undefined
  store.gate = (call) =>
    new Promise((resolve) => {
      if (call === 'create') release = resolve
      else resolve()
    })
  const opening = open('bob', { persistent: true })
  await eventually(() => release !== undefined && store.of('g/x').length === 1)
  for (let i = 0; i < 5; i++) await turn()
  send('g/x', 'ann')
  send('g/x', 'ann', [leaves('bob', 1, 3)])
  send('g/x', 'ann')
  store.gate = async () => undefined
  release()
  const bob = await opening
  hub.start(bob)
  await eventually(() => bob.outlet.seqs('g/x').length >= 2)
  send('g/x', 'ann')
  for (let i = 0; i < 10; i++) await turn()
  t.same(bob.outlet.seqs('g/x'), [2, 3], 'nothing behind the entry that removed him')
})

t.test('a persistent session goes on where it stopped', async (t) => {
  const { store, hub, start, send } = setUp()
  putRow(store, 'bob', 'u/ann/bob', undefined)
  send('u/ann/bob', 'ann')
  const first = await start('bob', { persistent: true })
  t.notOk(first.present)
  for (let i = 0; i < 4; i++) send('u/ann/bob', 'ann')
  t.same(first.outlet.seqs('u/ann/bob'), [2, 3, 4, 5])
  for (const { packetId } of first.outlet.sent.slice(0, 2)) first.session.acknowledge(packetId)
  hub.close(first.session)
  send('u/ann/bob', 'ann')
  const second = await start('bob', { persistent: true })
  t.ok(second.present)
  await eventually(() => second.outlet.sent.length === 3)
  t.same(second.outlet.seqs('u/ann/bob'), [4, 5, 6], 'what was not acknowledged comes again')
})

t.test('the later connect of a device wins, and closes the earlier', async (t) => {
  const { hub, start, send } = setUp()
  const older = await start('bob')
  const newer = await start('bob')
  t.match(older.outlet.why, /same device/)
  send('u/ann/bob', 'ann')
  t.same(older.outlet.sent, [])
  t.same(newer.outlet.seqs('u/ann/bob'), [1])
  t.equal(hub.sessionCount, 1)
  hub.close(older.session)
  t.equal(hub.sessionCount, 1, 'closing what is closed changes nothing')
  hub.close(newer.session)
  t.equal(hub.sessionCount, 0)
})

t.test('a session ends when another node has a later one of its device, also while it is opened', async (t) => {
  const { store, hub, open, start } = setUp()
  const older = await start('bob')
  hub.overtake('bob', 'phone', older.session.epoch)
  hub.overtake('bob', 'tab', 99)
  t.equal(older.outlet.why, undefined, 'not by what is no later')
  hub.overtake('bob', 'phone', older.session.epoch + 1)
  t.match(older.outlet.why, /another server/)
  t.equal(hub.sessionCount, 0)
  let release = (): void => undefined
  store.gate = () =>
    new Promise((resolve) => {
      release = resolve
    })
  const opening = open('bob').catch((error: Error) => error)
  for (let i = 0; i < 20; i++) await turn()
  hub.overtake('bob', 'phone', store.epoch + 2)
  store.gate = async () => undefined
  release()
  t.match(await opening, { code: 'unavailable' })
  t.equal(hub.sessionCount, 0)
  t.equal((await start('bob')).outlet.why, undefined, 'the next one is later still')
})

t.test('an overtaken clean connect does not remove the session of the later one', async (t) => {
  const { store, hub, open, start } = setUp()
  hub.close((await start('bob', { persistent: true })).session)
  const held: (() => void)[] = []
  store.gate = (call) => (call === 'open' ? Promise.resolve() : new Promise((resolve) => held.push(resolve)))
  const clean = open('bob').catch((error: Error) => error)
  await eventually(() => held.length === 1, { what: 'the clean one is about to remove the stored session' })
  const persistent = open('bob', { persistent: true })
  for (let i = 0; i < 20; i++) await turn()
  store.gate = async () => undefined
  for (const release of held) release()
  await clean
  hub.start(await persistent)
  t.ok(store.stored.has('bob/phone'))
  t.equal(hub.sessionCount, 1)
})

t.test('cursors are written once for many PUBACKs, and again after a failure', async (t) => {
  const { store, hub, start, send } = setUp()
  const bob = await start('bob', { persistent: true })
  for (let i = 0; i < 50; i++) send('u/ann/bob', 'ann')
  for (const { packetId } of bob.outlet.sent) bob.session.acknowledge(packetId)
  t.same(store.saves, [])
  store.failingSaves = 1
  await hub.flush()
  t.same(store.saves, [], 'it failed')
  await hub.flush()
  t.same(store.saves, [['bob u/ann/bob 50']])
  await hub.flush()
  t.equal(store.saves.length, 1, 'nothing moved, nothing is written')
})

t.test('a connect that cannot be served leaves nothing behind', async (t) => {
  const { store, hub, open } = setUp()
  store.gate = () => Promise.reject(new StoreUnavailable('away'))
  await t.rejects(open('bob', { persistent: true }), StoreUnavailable)
  t.equal(hub.sessionCount, 0)
  store.gate = async () => undefined
  await open('bob', { persistent: true })
  t.equal(hub.sessionCount, 1)
})
