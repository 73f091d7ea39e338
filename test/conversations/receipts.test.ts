/** Receipts: sent, delivered, read, as the sender sees them. */
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { type Json, stage } from '../helper/stage.js'

t.test('delivered when a device has acknowledged, read when the user says so, on all devices of the sender', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('alice', { device: 'web' })
  await alice.sends('u/bob', 'hi')
  await bob.receives({ seq: 1 })
  for (const device of [alice, web]) await device.hears({ type: 'receipt', conv: 'u/bob', user: 'bob', delivered: 1, read: 0 })
  const [before] = (await alice.calls<{ conversations: object[] }>('conversations')).conversations
  t.match(before, { conv: 'u/bob', delivered: 1, read: 0 })
  await bob.reads('u/alice', 1)
  for (const device of [alice, web]) await device.hears({ type: 'receipt', conv: 'u/bob', user: 'bob', delivered: 1, read: 1 })
  const [after] = (await alice.calls<{ conversations: object[] }>('conversations')).conversations
  t.match(after, { conv: 'u/bob', delivered: 1, read: 1 })
})

t.test('who is away has received nothing until he is back; it is known after a restart', async (t) => {
  const s = await stage(t)
  const alice = await s.actor('alice')
  const bob = await s.actor('bob', { clean: false })
  await bob.leaves()
  for (let at = 1; at <= 3; at++) await alice.sends('u/bob', `missed ${at}`)
  t.strictSame(await alice.calls('receipts', { conv: 'u/bob' }), { receipts: {} })
  await bob.returns()
  await bob.receivesRun('u/alice', 1, 3)
  const want = { receipts: { bob: [3, 0] } }
  await eventually(async () => JSON.stringify(await alice.calls('receipts', { conv: 'u/bob' })) === JSON.stringify(want), {
    what: 'all three are delivered',
  })
  await s.restart()
  await alice.returns()
  t.strictSame(await alice.calls('receipts', { conv: 'u/bob' }), want)
})

t.test('a group is asked: positions of all, or who has one message; outsiders learn nothing', async (t) => {
  const s = await stage(t)
  const [alice, bob, , mallory] = await s.cast(['alice', 'bob', 'carol', 'mallory'])
  await alice.calls('group.create', { group: 'team', members: ['bob', 'carol'] })
  await alice.sends('g/team', 'hello')
  await bob.receives({ conv: 'g/team', seq: 1 })
  await bob.receives({ conv: 'g/team', seq: 2 })
  await bob.reads('g/team', 2)
  const want = { seq: 2, read: ['bob'], delivered: ['carol'] }
  await eventually(async () => JSON.stringify(await alice.calls('receipts', { conv: 'g/team', seq: 2 })) === JSON.stringify(want), {
    what: 'bob has read and carol has received',
  })
  await mallory.callsInVain('receipts', { conv: 'g/team' }, 'forbidden')
  await mallory.callsInVain('receipts', { conv: 'u/bob' }, 'not_found')
  const token = await s.token('alice')
  const { body } = await s.http('POST', '/v1/rpc/receipts', { token, body: { conv: 'g/team' } })
  t.strictSame(body, { receipts: { bob: [2, 2], carol: [2, 0] } })
})

t.test('the receipts of a group of 500 fit into 16 kB', async (t) => {
  const s = await stage(t)
  const names = Array.from({ length: 499 }, (_, at) => `member-${String(at).padStart(4, '0')}`)
  await s.server.ensureUsers(names)
  const alice = await s.actor('alice')
  await alice.calls('group.create', { group: 'large', members: names })
  const readers = await Promise.all(names.slice(0, 20).map((name) => s.actor(name)))
  await alice.sends('g/large', 'hello')
  for (const reader of readers) await reader.reads('g/large', 2)
  const answer = await alice.calls<{ receipts: Record<string, [number, number]> }>('receipts', { conv: 'g/large' })
  t.equal(Object.values(answer.receipts).filter(([, read]) => read === 2).length, 20)
  const bytes = JSON.stringify({ receipts: Object.fromEntries(names.map((name) => [name, [12_345, 12_345]])) }).length
  t.ok(bytes < 16_000, `${bytes} bytes when everybody has read`)
})

t.test('with ids of 64 characters the receipts of 500 come in pages of 16 kB', async (t) => {
  const s = await stage(t)
  const names = Array.from({ length: 499 }, (_, at) => `member-${String(at).padStart(57, '0')}`)
  await s.server.ensureUsers(names)
  const alice = await s.actor('alice')
  await alice.calls('group.create', { group: 'large', members: names })
  const { seq } = await alice.sends('g/large', 'hello')
  const readers = names.slice(0, 250)
  for (const reader of readers) {
    const raw = await s.raw(reader)
    await raw.publish('g/large/read', `{"seq":${seq}}`, { qos: 1 })
    raw.reset()
  }
  for (const [params, usersOf] of [
    [{ conv: 'g/large' }, ({ receipts }: Json) => Object.keys(receipts as Json)],
    [{ conv: 'g/large', seq }, ({ read }: Json) => read as string[]],
  ] as const) {
    const found: string[] = []
    let cursor: unknown
    do {
      const page: Json = await alice.calls('receipts', { ...params, ...(cursor === undefined ? {} : { cursor }) })
      const bytes = JSON.stringify(page).length
      t.ok(bytes <= 16_000, `${bytes} bytes`)
      found.push(...usersOf(page))
      cursor = page.next
    } while (cursor !== undefined)
    t.strictSame(found, readers)
  }
})
