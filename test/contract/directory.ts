/** The contract of Directory: records, effects in the commit of their entry, lists of conversations, read positions. */
import type { Test } from 'tap'
import type { Effect, GroupRecord, Role, Span } from '../../broker/store/store.js'
import { append, entry } from './entries.js'
import { listOf, nowAndReopened, type OpenStore } from './store-under-test.js'

const team: GroupRecord = { group: 'team', name: 'The team', createdTs: 1, membersMax: 500 }
const member = (user: string, role: Role | undefined, ...spans: Span[]): Effect => ({
  kind: 'member',
  group: 'team',
  record: { user, role, spans },
})
const byConv = (a: { conv: string }, b: { conv: string }) => (a.conv < b.conv ? -1 : 1)

export function testDirectory(t: Test, open: OpenStore): void {
  t.test('users are created, replaced and found again', async (t) => {
    const tested = await open(t)
    await tested.store.directory.putUser({ user: 'alice', createdTs: 1 })
    await tested.store.directory.putUser({ user: '__proto__', createdTs: 2 })
    await tested.store.directory.putUser({ user: 'alice', createdTs: 1, tokensFrom: 99 })
    for await (const { directory } of nowAndReopened(tested)) {
      t.same(await directory.user('alice'), { user: 'alice', createdTs: 1, tokensFrom: 99 })
      t.same(await directory.user('__proto__'), { user: '__proto__', createdTs: 2 })
      t.equal(await directory.user('constructor'), undefined)
      t.same(
        (await listOf(directory.users())).map(({ user }) => user),
        ['__proto__', 'alice'],
      )
    }
  })

  t.test('a user is added once: one who is there stays as he is', async (t) => {
    const tested = await open(t)
    const { directory } = tested.store
    await directory.putUser({ user: 'alice', createdTs: 1, erasedTs: 5 })
    await directory.addUser({ user: 'alice', createdTs: 2 })
    await Promise.all([directory.addUser({ user: 'bob', createdTs: 3 }), directory.addUser({ user: 'bob', createdTs: 3 })])
    await directory.addUser({ user: '__proto__', createdTs: 4 })
    for await (const { directory } of nowAndReopened(tested)) {
      t.same(await directory.user('alice'), { user: 'alice', createdTs: 1, erasedTs: 5 })
      t.same(await directory.user('bob'), { user: 'bob', createdTs: 3 })
      t.same(await directory.user('__proto__'), { user: '__proto__', createdTs: 4 })
    }
  })

  t.test('a group, its members and their lists change in the commit of the entry', async (t) => {
    const tested = await open(t)
    const { log } = tested.store
    await log.append([
      append('g/team', 0, 1, {
        effects: [{ kind: 'group', record: team }, member('alice', 'owner', { from: 1 }), member('bob', 'member', { from: 1 })],
      }),
    ])
    await log.append([append('g/team', 1, 1, { effects: [member('bob', undefined, { from: 1, to: 2 })] })])
    await log.append([
      append('g/team', 2, 3, {
        effects: [member('bob', 'admin', { from: 1, to: 2 }, { from: 5 }), { kind: 'group', record: { ...team, name: 'New' } }],
      }),
    ])
    const spans = [{ from: 1, to: 2 }, { from: 5 }]
    for await (const { directory } of nowAndReopened(tested)) {
      t.same(await directory.group('team'), { ...team, name: 'New' })
      t.equal(await directory.group('tea'), undefined)
      t.same(
        (await directory.members('team')).sort((a, b) => (a.user < b.user ? -1 : 1)),
        [
          { user: 'alice', role: 'owner', spans: [{ from: 1 }] },
          { user: 'bob', role: 'admin', spans },
        ],
      )
      t.same(await directory.member('team', 'bob'), { user: 'bob', role: 'admin', spans })
      t.equal(await directory.member('team', 'carol'), undefined)
      t.same(await directory.members('other'), [])
      t.same(await directory.conversationsOf('bob'), [{ conv: 'g/team', read: 0, sent: 0, spans }])
      t.same(await directory.conversation('alice', 'g/team'), { conv: 'g/team', read: 0, sent: 5, spans: [{ from: 1 }] })
    }
  })

  t.test('groups are found together, in the order asked', async (t) => {
    const tested = await open(t)
    const { log } = tested.store
    const record = (group: string) => ({ ...team, group, name: `the ${group}` })
    await log.append(['a', 'b', 'c'].map((group) => append(`g/${group}`, 0, 1, { effects: [{ kind: 'group', record: record(group) }] })))
    for await (const { directory } of nowAndReopened(tested)) {
      t.same(await directory.groups(['c', 'none', 'a', 'c']), [record('c'), undefined, record('a'), record('c')])
      t.same(await directory.groups([]), [])
    }
  })

  t.test('a past member keeps the row, with closed spans', async (t) => {
    const { store } = await open(t)
    await store.log.append([append('g/team', 0, 1, { effects: [{ kind: 'group', record: team }, member('bob', 'member', { from: 1 })] })])
    await store.log.append([append('g/team', 1, 1, { effects: [member('bob', undefined, { from: 1, to: 2 })] })])
    t.same(await store.directory.member('team', 'bob'), { user: 'bob', role: undefined, spans: [{ from: 1, to: 2 }] })
    t.same(await store.directory.conversationsOf('bob'), [{ conv: 'g/team', read: 0, sent: 0, spans: [{ from: 1, to: 2 }] }])
  })

  t.test('members are found with how far each has read', async (t) => {
    const tested = await open(t)
    const { log, directory } = tested.store
    const effects: Effect[] = [
      { kind: 'group', record: team },
      member('alice', 'owner', { from: 1 }),
      member('bob', undefined, { from: 1, to: 3 }),
    ]
    await log.append([append('g/team', 0, 5, { effects })])
    await directory.setRead([{ user: 'alice', conv: 'g/team', seq: 4 }])
    for await (const { directory } of nowAndReopened(tested)) {
      const found = await directory.membersWithReads('team')
      t.same(
        found.sort((a, b) => (a.user < b.user ? -1 : 1)),
        [
          { user: 'alice', role: 'owner', spans: [{ from: 1 }], read: 4 },
          { user: 'bob', role: undefined, spans: [{ from: 1, to: 3 }], read: 0 },
        ],
      )
      t.same(await directory.membersWithReads('tea'), [])
    }
  })

  t.test('a direct conversation is listed for both users from its first entry on', async (t) => {
    const tested = await open(t)
    const { log } = tested.store
    await log.append([append('u/alice/bob', 0, [entry(1, 'alice'), entry(2, 'bob'), entry(3, 'alice')]), append('u/alice/alice', 0, 1)])
    await log.append([append('u/alice/carol', 0, [entry(1, 'carol')])])
    for await (const { directory } of nowAndReopened(tested)) {
      t.same((await directory.conversationsOf('alice')).sort(byConv), [
        { conv: 'u/alice/alice', read: 0, sent: 1 },
        { conv: 'u/alice/bob', read: 0, sent: 3 },
        { conv: 'u/alice/carol', read: 0, sent: 0 },
      ])
      t.same((await directory.conversationsAtHead('alice')).map(({ conv, sent, head, ts }) => [conv, sent, head, ts]).sort(), [
        ['u/alice/alice', 1, 1, entry(1).ts],
        ['u/alice/bob', 3, 3, entry(3).ts],
        ['u/alice/carol', 0, 1, entry(1).ts],
      ])
      t.same(await directory.conversationsOf('bob'), [{ conv: 'u/alice/bob', read: 0, sent: 2 }])
      t.same(await directory.conversationsOf('bo'), [])
      t.same(await directory.conversation('carol', 'u/alice/carol'), { conv: 'u/alice/carol', read: 0, sent: 1 })
      t.equal(await directory.conversation('dave', 'u/alice/carol'), undefined)
    }
  })

  t.test('read positions move forwards only, also when they overtake each other', async (t) => {
    const tested = await open(t)
    const { log, directory } = tested.store
    await log.append([append('u/alice/bob', 0, 20), append('u/alice/carol', 0, 5)])
    const read = (seq: number, conv = 'u/alice/bob') => directory.setRead([{ user: 'bob', conv, seq }])
    await Promise.all([read(10), read(7), read(12), read(3)])
    await read(4)
    await directory.setRead([])
    t.equal((await directory.conversation('bob', 'u/alice/bob'))?.read, 12)
    await directory.setRead([
      { user: 'alice', conv: 'u/alice/bob', seq: 5 },
      { user: 'alice', conv: 'u/alice/carol', seq: 2 },
      { user: 'alice', conv: 'u/alice/carol', seq: 1 },
    ])
    const rows = await (await tested.reopen()).directory.conversationsOf('alice')
    t.same(rows.map(({ conv, read }) => [conv, read]).sort(), [
      ['u/alice/bob', 5],
      ['u/alice/carol', 2],
    ])
    for await (const { directory } of nowAndReopened(tested)) {
      const conv = 'u/alice/bob'
      const places = [
        { user: 'bob', conv },
        { user: 'nobody', conv },
        { user: 'alice', conv: 'u/alice/carol' },
        { user: 'alice', conv },
        { user: 'alice', conv: 'u/alice/nobody' },
      ]
      t.same(await directory.reads(places), [12, 0, 2, 5, 0])
      t.same(await directory.reads([]), [])
    }
  })

  t.test('a read position does not make a conversation that the user has not', async (t) => {
    const { store } = await open(t)
    await store.directory.setRead([{ user: 'eve', conv: 'u/alice/bob', seq: 3 }])
    t.same(await store.directory.conversationsOf('eve'), [])
    t.equal(await store.directory.conversation('eve', 'u/alice/bob'), undefined)
  })
}
