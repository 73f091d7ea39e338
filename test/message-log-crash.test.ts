/**
 * The message log between its two steps: a record that is durable and not yet done to the directory, a settling that fails, waits or finds
 * little room; and a random run in which commits fail and the store is opened again at any moment.
 */
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { type ConversationAppend, type Effect, type LogEntry, StoreUnavailable } from '../broker/store/store.js'
import { append, createRandom, entry, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { newDir } from './helper/new-dir.js'
import { type OpenedLog, openLog, unavailable } from './helper/open-log.js'

interface Tested {
  now: OpenedLog
  dir: string
  reopen(): Promise<OpenedLog>
}

async function open(t: Test, generationCostMax = 16_384): Promise<Tested> {
  const dir = await newDir(t)
  const tested: Tested = {
    dir,
    now: await openLog(dir, generationCostMax),
    reopen: async () => {
      await tested.now.close()
      tested.now = await openLog(dir, generationCostMax)
      return tested.now
    },
  }
  t.teardown(() => tested.now.close())
  return tested
}

const member = (user: string, from: number, to?: number): Effect => ({
  kind: 'member',
  group: 'team',
  record: to === undefined ? { user, role: 'member', spans: [{ from }] } : { user, role: undefined, spans: [{ from, to }] },
})
const named = (name: string): Effect => ({ kind: 'group', record: { group: 'team', name, createdTs: 1, membersMax: 9 } })
const sent = { session: 'alice/phone', packetId: 7, digest: 'one' }
const retransmit = (seq: number) => ({ ...sent, epoch: 1, order: seq, seq })

async function everything({ log }: OpenedLog, conv: string): Promise<LogEntry[]> {
  return log.read(conv, 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
}

const firsts = (): ConversationAppend[] => [
  append('g/team', 0, 2, { effects: [named('Team'), member('alice', 1), member('bob', 1)], retransmits: [retransmit(2)] }),
  append('u/alice/bob', 0, 3),
]

async function checkFirsts(t: Test, opened: OpenedLog): Promise<void> {
  const { log, directory } = opened
  t.same(await everything(opened, 'g/team'), [entry(1), entry(2)])
  t.same(await everything(opened, 'u/alice/bob'), [entry(1), entry(2), entry(3)])
  t.same(await log.findSentAll(['c1', 'c2', 'c3'].map((id) => ({ conv: 'g/team', from: 'alice', id }))), [1, 2, undefined])
  t.equal((await directory.group('team'))?.name, 'Team')
  t.same((await directory.members('team')).map(({ user }) => user).sort(), ['alice', 'bob'])
  t.match(await log.findRetransmit(sent.session, sent.packetId), { digest: sent.digest, conv: 'g/team', seq: 2, ts: entry(2).ts })
  const rows = (await directory.conversationsOf('alice')).sort((a, b) => a.conv.localeCompare(b.conv))
  t.same(rows, [
    { conv: 'g/team', read: 0, sent: 2, spans: [{ from: 1 }] },
    { conv: 'u/alice/bob', read: 0, sent: 3 },
  ])
}

async function checkNothing(t: Test, { log, directory }: OpenedLog): Promise<void> {
  t.same(await log.heads(['g/team', 'u/alice/bob']), [
    { head: 0, ts: 0 },
    { head: 0, ts: 0 },
  ])
  t.same(await log.read('g/team', 1, 9, 9), [])
  t.equal(await log.findSent('g/team', 'alice', 'c1'), undefined)
  t.equal(await log.findRetransmit(sent.session, sent.packetId), undefined)
  t.equal(await directory.group('team'), undefined)
  t.same(await directory.conversationsOf('alice'), [])
}

t.test('a crash between the journal and the directory: all of it is there afterwards, once', async (t) => {
  for (const generation of [1, 16_384]) {
    const tested = await open(t, generation)
    tested.now.beforeCommit = unavailable
    await t.rejects(tested.now.log.append(firsts()), StoreUnavailable)
    await checkNothing(t, tested.now)
    for (let again = 0; again < 3; again++) await checkFirsts(t, await tested.reopen())
    t.same(await tested.now.log.append(firsts()), ['g/team', 'u/alice/bob'], 'the same again is a conflict')
    t.same(await tested.now.log.append([append('g/team', 2), append('u/alice/bob', 3)]), [])
    const again = await tested.reopen()
    t.same(await again.log.heads(['g/team', 'u/alice/bob']), [
      { head: 3, ts: entry(3).ts },
      { head: 4, ts: entry(4).ts },
    ])
  }
})

t.test('of many records the effects of the last one win', async (t) => {
  const tested = await open(t)
  const { log } = tested.now
  await log.append(firsts())
  await log.append([append('g/team', 2, 1, { effects: [named('Renamed'), member('bob', 1, 3)], retransmits: [retransmit(3)] })])
  for (const isCrash of [false, true]) {
    await tested.reopen()
    t.equal((await tested.now.directory.group('team'))?.name, 'Renamed')
    t.same(await tested.now.directory.member('team', 'bob'), { user: 'bob', role: undefined, spans: [{ from: 1, to: 3 }] })
    t.equal((await tested.now.log.findRetransmit(sent.session, sent.packetId))?.seq, 3)
    if (isCrash) continue
    tested.now.beforeCommit = unavailable
    const last = append('g/team', 3, 1, { effects: [named('Last'), member('bob', 1)] })
    await t.rejects(tested.now.log.append([last]))
    await tested.reopen()
    t.equal((await tested.now.directory.group('team'))?.name, 'Last')
    t.equal((await tested.now.directory.member('team', 'bob'))?.role, 'member')
    await tested.now.log.append([append('g/team', 4, 1, { effects: [named('Renamed'), member('bob', 1, 3)] })])
  }
})

t.test('after a failed commit the next append shows it, and reports the conflict', async (t) => {
  const tested = await open(t)
  const { log } = tested.now
  tested.now.beforeCommit = unavailable
  await t.rejects(log.append(firsts()), StoreUnavailable)
  await t.rejects(log.append(firsts()), StoreUnavailable)
  await t.rejects(log.append([append('u/carol/dave', 0)]), StoreUnavailable, 'nothing is written behind what is not visible')
  await checkNothing(t, tested.now)
  tested.now.beforeCommit = () => undefined
  t.same(await log.append([...firsts(), append('u/carol/dave', 0)]), ['g/team', 'u/alice/bob'])
  await checkFirsts(t, tested.now)
  t.equal(await log.head('u/carol/dave'), 1)
  await checkFirsts(t, await tested.reopen())
  t.equal(await tested.now.log.head('u/carol/dave'), 1)
})

t.test('an append to another conversation shows it, too', async (t) => {
  const tested = await open(t)
  tested.now.beforeCommit = unavailable
  await t.rejects(tested.now.log.append(firsts()))
  tested.now.beforeCommit = () => undefined
  t.same(await tested.now.log.append([append('u/carol/dave', 0)]), [])
  await checkFirsts(t, tested.now)
})

t.test('a commit that is late is not seen before it is done, and then at once', async (t) => {
  const { now } = await open(t)
  let goOn = (): void => undefined
  now.beforeCommit = () => new Promise((resolve) => (goOn = resolve))
  const appended = now.log.append(firsts())
  const next = now.log.append([append('g/team', 2)])
  await eventually(() => now.commits === 1)
  await checkNothing(t, now)
  now.beforeCommit = () => undefined
  goOn()
  t.same(await appended, [])
  t.same(await next, [])
  t.equal(await now.log.head('g/team'), 3)
})

t.test('settling that fails stops the appends at a bound, and goes on when it can', async (t) => {
  const tested = await open(t, 10)
  const { now } = tested
  await now.log.append([append('g/team', 0)])
  now.beforeCommit = unavailable
  let head = 1
  for (;;) {
    try {
      await now.log.append([append('g/team', head, 5)])
      head += 5
    } catch (error) {
      t.ok(error instanceof StoreUnavailable)
      t.match(String(error), /no room to move the journal/)
      break
    }
  }
  t.ok(head > 80 && head < 300, `${head} entries`)
  t.equal((await everything(now, 'g/team')).length, head)
  await t.rejects(now.log.append([append('g/team', head)]), StoreUnavailable)
  now.beforeCommit = () => undefined
  t.same(await now.log.append([append('g/team', head)]), [])
  await eventually(() => now.recent.settling === undefined)
  t.equal((await everything(now, 'g/team')).length, head + 1)
  t.equal((await everything(await tested.reopen(), 'g/team')).length, head + 1)
})

t.test('settling that is slow makes the appends wait, not fail', async (t) => {
  const { now } = await open(t, 10)
  await now.log.append([append('g/team', 0)])
  let goOn = (): void => undefined
  let waiting = 0
  now.beforeCommit = () => {
    waiting++
    return new Promise((resolve) => (goOn = resolve))
  }
  const appends: Promise<string[]>[] = []
  for (let head = 1; head < 301; head += 5) appends.push(now.log.append([append('g/team', head, 5)]))
  await eventually(() => waiting === 1)
  const stuckAt = await eventually(async () => {
    const head = await now.log.head('g/team')
    await new Promise((resolve) => setTimeout(resolve, 20))
    return head > 80 && head === (await now.log.head('g/team')) && head
  })
  t.ok(stuckAt < 300, `waits at ${stuckAt}`)
  now.beforeCommit = () => undefined
  goOn()
  for (const conflicts of await Promise.all(appends)) t.same(conflicts, [])
  t.equal((await everything(now, 'g/team')).length, 301)
})

t.test('a disk that gets full in the middle of settling', async (t) => {
  const tested = await open(t, 60)
  const convs = ['u/a/b', 'u/a/c', 'u/a/d', 'u/a/e', 'g/team']
  const check = async () => {
    for (const conv of convs) {
      const all = await everything(tested.now, conv)
      t.same([all.length, all.findIndex(({ seq }, i) => seq !== i + 1)], [20, -1], conv)
      t.same(
        await tested.now.log.findSentAll(all.map(({ from, id }) => ({ conv, from, id }))),
        Array.from({ length: 20 }, (_, i) => i + 1),
      )
    }
    t.equal((await tested.now.directory.conversation('a', 'u/a/b'))?.sent, 20)
  }
  const sentBy = (user: string, head: number) => Array.from({ length: 10 }, (_, i) => entry(head + 1 + i, user))
  let commits = 0
  tested.now.beforeCommit = () => {
    // Room for one conversation, then for none.
    if (++commits > 3) tested.now.room = 0
  }
  tested.now.room = 0
  await tested.now.log.append(convs.map((conv) => append(conv, 0, sentBy('a', 0))))
  await tested.now.log.append(convs.map((conv) => append(conv, 10, sentBy('a', 10))))
  await eventually(() => tested.now.recent.settling !== undefined)
  t.equal(tested.now.recent.settling?.conversations.size, 5)
  commits = 0
  tested.now.room = 3 * 5_500
  // Each append tries again, unless the try of the one before is still under way.
  await eventually(async () => {
    t.same(await tested.now.log.append([append('u/a/b', 20, 0)]), [])
    return (tested.now.recent.settling?.conversations.size ?? 0) < 5
  })
  await check()
  t.comment(`${tested.now.recent.settling?.conversations.size} conversations are left`)
  await tested.reopen()
  await check()
  await eventually(() => tested.now.recent.settling === undefined)
  await check()
})

t.test('a journal file removed under the store is noticed, and so is one that is missing at start', async (t) => {
  const tested = await open(t, 1)
  let commits = 0
  // Nothing is settled: only what the first append does to the directory is committed.
  tested.now.beforeCommit = () => {
    if (commits++ > 0) unavailable()
  }
  await tested.now.log.append([append('u/a/b', 0, 3)])
  const journal = join(tested.dir, 'store', 'journal')
  const [file = ''] = await readdir(journal)
  await rename(join(journal, file), join(tested.dir, 'away'))
  await t.rejects(tested.now.log.append([append('u/a/b', 3)]), { name: 'StoreUnavailable', message: /journal was removed or replaced/ })
  t.equal(await tested.now.log.head('u/a/b'), 3)
  await rename(join(tested.dir, 'away'), join(journal, file))
  t.same(await tested.now.log.append([append('u/a/b', 3)]), [])
  t.equal((await readdir(journal)).length, 2)
  await tested.now.close()
  await rename(join(journal, file), join(tested.dir, 'away'))
  const missing = { name: 'OperatorError', message: /has no record \d+, but \d+: restore it from a backup/ }
  await t.rejects(createLmdbStore({ dir: tested.dir }), missing)
  await t.rejects(createLmdbStore({ dir: tested.dir }), missing, 'the lock was given back')
  await rename(join(tested.dir, 'away'), join(journal, file))
  tested.now = await openLog(tested.dir, 16_384)
  t.equal((await everything(tested.now, 'u/a/b')).length, 4)
})

t.test('a journal that was cut at its end is told from one whose last record a crash has torn', async (t) => {
  const dir = await newDir(t)
  const write = async (...heads: number[]): Promise<void> => {
    const store = await createLmdbStore({ dir })
    for (const head of heads) t.same(await store.log.append([append('u/a/b', head)]), [])
    await store.close()
  }
  await write(0, 1, 2)
  const journal = join(dir, 'store', 'journal')
  const names = await readdir(journal)
  const whole = new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(journal, name))] as const)))
  const [name = '', bytes = Buffer.alloc(0)] = [...whole].find(([, { length }]) => length > 0) ?? []
  const cutTo = (length: number): Promise<void> => writeFile(join(journal, name), bytes.subarray(0, length))
  for (const length of [bytes.length - 1, bytes.length / 2, 0]) {
    await cutTo(Math.floor(length))
    await t.rejects(createLmdbStore({ dir }), {
      name: 'OperatorError',
      message: /ends with record \d+, and \d+ was stored: [123] are missing/,
    })
  }
  await cutTo(bytes.length)
  await write(3)
  t.pass('nothing was done to it meanwhile')
})

// --- at random ------------------------------------------------------------------------------------------------------

const convs = ['u/alice/bob', 'u/alice/carol', 'g/team', 'g/all']
const users = ['alice', 'bob', 'carol']

interface Model {
  entries: Map<string, LogEntry[]>
  members: Map<string, number>
  names: Map<string, string>
  retransmits: Map<number, { digest: string; conv: string; seq: number; ts: number }>
}

function randomAppend(model: Model, conv: string, random: (below: number) => number): ConversationAppend {
  const head = (model.entries.get(conv) as LogEntry[]).length
  const entries = Array.from({ length: 1 + random(8) }, (_, i) => ({
    ...entry(head + 1 + i, users[random(3)]),
    payload: Buffer.alloc(random(900), `${head + 1 + i}.`),
  }))
  const last = head + entries.length
  const group = conv.slice(2)
  const effects: Effect[] = []
  if (conv.startsWith('g/') && (head === 0 || random(3) === 0)) {
    effects.push({ kind: 'group', record: { group, name: `as of ${last}`, createdTs: 1, membersMax: 9 } })
    effects.push({ kind: 'member', group, record: { user: users[random(3)] as string, role: 'member', spans: [{ from: last }] } })
  }
  const retransmits =
    random(4) === 0 ? [{ ...sent, packetId: 1 + random(600), digest: `${conv} ${last}`, epoch: 1, order: 1, seq: last }] : []
  return append(conv, head, entries, { effects, retransmits })
}

function applyTo(model: Model, { conv, entries, effects, retransmits }: ConversationAppend): void {
  const all = model.entries.get(conv) as LogEntry[]
  all.push(...entries)
  for (const effect of effects) {
    if (effect.kind === 'group') model.names.set(effect.record.group, effect.record.name)
    else model.members.set(`${effect.group} ${effect.record.user}`, effect.record.spans[0]?.from ?? 0)
  }
  for (const { packetId, digest, seq } of retransmits) {
    // Of packet ids that are equal in their last eight bits only the last is remembered.
    for (const other of model.retransmits.keys()) if (other % 256 === packetId % 256) model.retransmits.delete(other)
    model.retransmits.set(packetId, { digest, conv, seq, ts: all[seq - 1]?.ts ?? 0 })
  }
}

async function compare(t: Test, opened: OpenedLog, model: Model): Promise<void> {
  const { log, directory } = opened
  for (const [conv, entries] of model.entries) {
    if (!isDeepStrictEqual(await everything(opened, conv), entries)) return t.same(await everything(opened, conv), entries, conv) as never
    const found = await log.findSentAll(entries.map(({ from, id }) => ({ conv, from, id })))
    if (found.some((seq, i) => seq !== i + 1)) return t.fail(`the index of ${conv}`) as never
    t.equal(await log.findSent(conv, 'alice', `c${entries.length + 1}`), undefined)
    for (const user of users) {
      const row = await directory.conversation(user, conv)
      const from = model.members.get(`${conv.slice(2)} ${user}`)
      const isListed = entries.length > 0 && (conv.startsWith('g/') ? from !== undefined : conv.split('/').includes(user))
      const expected = { conv, read: 0, sent: entries.findLast((one) => one.from === user)?.seq ?? 0 }
      t.same(row, isListed ? (from === undefined ? expected : { ...expected, spans: [{ from }] }) : undefined, `${user} in ${conv}`)
    }
  }
  for (const [group, name] of model.names) t.equal((await directory.group(group))?.name, name)
  for (const [packetId, { digest, conv, seq, ts }] of model.retransmits) {
    t.match(await log.findRetransmit(sent.session, packetId), { packetId, digest, conv, seq, ts })
  }
}

t.test('at random, with commits that fail and stores opened again', { timeout: 100_000 }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (const generation of [15, 150]) {
    const tested = await open(t, generation)
    const model: Model = { entries: new Map(convs.map((conv) => [conv, []])), members: new Map(), names: new Map(), retransmits: new Map() }
    let failures = 0
    for (let round = 0; round < 250; round++) {
      const batch = convs.filter(() => random(2) === 0).map((conv) => randomAppend(model, conv, random))
      let failing = random(3) === 0 ? 1 + random(4) : 0
      tested.now.beforeCommit = () => {
        if (failing-- > 0) unavailable()
      }
      for (let isWritten = false; !isWritten; ) {
        try {
          const conflicts = await tested.now.log.append(batch)
          isWritten = true
          t.ok(conflicts.length === 0 || failures > 0)
        } catch (error) {
          if (!(error instanceof StoreUnavailable)) throw error
          failures++
          if (random(3) === 0) await tested.reopen()
        }
      }
      for (const one of batch) applyTo(model, one)
      if (random(20) === 0) await tested.reopen()
      if (random(8) === 0) await compare(t, tested.now, model)
    }
    await compare(t, await tested.reopen(), model)
    t.ok(failures > 10, `${failures} appends failed`)
  }
})
