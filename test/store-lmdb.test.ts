/** The embedded store: the contract suites, and what only LMDB can do wrong: crashes, settling, full disks, removed files. */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants, existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { compactLmdbStore, createLmdbStore, type LmdbStoreOptions } from '../broker/store/lmdb/lmdb-store.js'
import { type LogEntry, type Store, StoreUnavailable } from '../broker/store/store.js'
import { testDirectory } from './contract/directory.js'
import { append, createRandom, entry, newSeed } from './contract/entries.js'
import { testKeyValueStore } from './contract/key-value-store.js'
import { testMessageLog } from './contract/message-log.js'
import { testSessionStore } from './contract/session-store.js'
import { nowAndReopened, type StoreUnderTest } from './contract/store-under-test.js'
import { eventually } from './helper/eventually.js'
import { filesWith } from './helper/grep.js'
import { newDir } from './helper/new-dir.js'
import { smallDisk } from './helper/small-disk.js'

const opener =
  (options: Omit<LmdbStoreOptions, 'dir'>) =>
  async (t: Test): Promise<StoreUnderTest> => {
    const dir = await newDir(t)
    const tested: StoreUnderTest = {
      store: await createLmdbStore({ dir, ...options }),
      reopen: async () => {
        await tested.store.close()
        tested.store = await createLmdbStore({ dir, ...options })
        return tested.store
      },
    }
    t.teardown(() => tested.store.close())
    return tested
  }

/** With small generations every test settles; with the default most are served from memory and the journal. */
for (const [name, options] of Object.entries({ 'small generations': { generationCostMax: 10 }, 'as it is': {} })) {
  const open = opener(options)
  t.test(`contract, ${name}`, async (t) => {
    t.test('message log', async (t) => testMessageLog(t, open))
    t.test('directory', async (t) => testDirectory(t, open))
    t.test('session store', async (t) => testSessionStore(t, open))
    t.test('key-value store', async (t) => testKeyValueStore(t, open))
  })
}

t.test('many generations of many conversations, and one that is larger than a generation', async (t) => {
  const tested = await opener({ generationCostMax: 2_000 })(t)
  const convs = Array.from({ length: 50 }, (_, i) => `g/team${i}`)
  for (let head = 0; head < 300; head += 30) await tested.store.log.append(convs.map((conv) => append(conv, head, 30)))
  for (let head = 0; head < 9_000; head += 3_000) await tested.store.log.append([append('g/hot', head, 3_000)])
  for await (const { log } of nowAndReopened(tested)) {
    for (const conv of convs) t.equal((await log.read(conv, 1, 1_000, 1_000)).length, 300)
    const hot = await log.read('g/hot', 1, 10_000, 10_000, Number.MAX_SAFE_INTEGER)
    t.same([hot.length, hot.at(-1)?.seq], [9_000, 9_000])
    t.equal(await log.findSent('g/hot', 'alice', 'c4567'), 4_567)
    t.same(await log.append([append('g/hot', 9_000, 0)]), [])
  }
})

t.test('a fault of the caller is found before anything is written', async (t) => {
  const { store } = await opener({})(t)
  const good = append('u/alice/bob', 0, 2)
  for (const bad of [
    append('g/team', 0, [entry(1), entry(3)]),
    append('g/team', 0, [entry(1, 'a'.repeat(65))]),
    append('g/team', 0, [entry(1, 'a', 'i'.repeat(129))]),
    append(`g/${'t'.repeat(2_000)}`, 0, 1),
    append('u/alice/bob', 2, 1),
  ]) {
    await t.rejects(store.log.append([good, bad]))
    t.equal(await store.log.head('u/alice/bob'), 0)
  }
  t.equal(await store.log.findSent('g/team', 'a', 'i'.repeat(3_000)), undefined)
})

t.test('after close every call is refused, and a second close is nothing', async (t) => {
  const { store } = await opener({})(t)
  const appended = store.log.append([append('u/alice/bob', 0, 5)])
  await appended
  await store.close()
  await store.close()
  await t.rejects(store.log.append([append('u/alice/bob', 5)]), StoreUnavailable)
  await t.rejects(store.log.head('u/alice/bob'), StoreUnavailable)
  await t.rejects(store.sessions.remove('a', 'b'), StoreUnavailable)
  await t.rejects(store.check(), StoreUnavailable)
})

t.test('kill -9 at any moment loses nothing that was acknowledged', { timeout: 100_000 }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const dir = await newDir(t)
  for (let round = 0; round < 6; round++) {
    const acknowledged = await runAndKill(t, dir, random)
    const store = await createLmdbStore({ dir, generationCostMax: 150 })
    try {
      await checkAfterCrash(t, store, acknowledged)
    } finally {
      await store.close()
    }
  }
})

/** The last acknowledged seq of each conversation. */
async function runAndKill(t: Test, dir: string, random: (below: number) => number): Promise<Map<string, number>> {
  const script = fileURLToPath(new URL('./helper/crash-writer.js', import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [script, dir, String(random(2 ** 30))], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text))
  const closed = new Promise((resolve) => child.once('close', resolve))
  const enough = 1 + random(600)
  await eventually(() => output.split('\n').length > enough || child.exitCode !== null, { timeoutMs: 60_000, everyMs: 1, what: 'appends' })
  child.kill('SIGKILL')
  await closed
  t.equal(child.signalCode, 'SIGKILL', 'the writer ran until it was killed')
  const acknowledged = new Map<string, number>()
  for (const line of output.slice(0, output.lastIndexOf('\n')).split('\n')) {
    const [conv = '', seq = ''] = line.split(' ')
    acknowledged.set(conv, Number(seq))
  }
  return acknowledged
}

async function checkAfterCrash(t: Test, { log, directory }: Store, acknowledged: Map<string, number>): Promise<void> {
  for (const [conv, seq] of acknowledged) {
    const head = await log.head(conv)
    t.ok(head >= seq, `${conv}: head ${head}, acknowledged ${seq}`)
    const all = await log.read(conv, 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    t.same([all.length, all.findIndex((found, i) => found.seq !== i + 1)], [head, -1], 'no gap')
    t.ok(all.every(({ seq, payload }) => payload.length === 0 || `${seq}.`.startsWith(payload.toString('utf8', 0, `${seq}.`.length))))
    const found = await log.findSentAll(all.map(({ from, id }) => ({ conv, from, id })))
    t.same(
      found,
      all.map(({ seq }) => seq),
      'log and index agree',
    )
    t.equal(await log.findSent(conv, 'alice', `c${head + 1}`), undefined)
    await checkEffects(t, { log, directory }, conv, all)
  }
}

/** What `crash-writer.ts` says of the effects and retransmissions of each append. */
async function checkEffects(t: Test, { log, directory }: Pick<Store, 'log' | 'directory'>, conv: string, all: LogEntry[]): Promise<void> {
  const head = all.length
  for (const { seq, ts } of all.slice(-256)) {
    const found = await log.findRetransmit(`${conv}/phone`, seq)
    if (found?.seq !== seq || found.digest !== String(seq) || found.ts !== ts || found.conv !== conv)
      t.same(found, { conv, seq, ts }, `retransmission of ${conv} ${seq}`)
  }
  for (const user of ['alice', 'bob']) {
    const row = await directory.conversation(user, conv)
    if (row !== undefined) t.equal(row.sent, all.findLast(({ from }) => from === user)?.seq ?? 0, `${user} in ${conv}`)
    else t.ok(conv.startsWith('g/') || !conv.split('/').includes(user), `${user} is no member of ${conv}`)
  }
  if (!conv.startsWith('g/')) return
  const group = conv.slice(2)
  const members = await directory.members(group)
  t.equal(members.length, head + 1, 'log and effects agree')
  t.same(
    members.filter(({ user, spans }) => user !== 'last' && user !== `m${spans[0]?.from}`),
    [],
  )
  t.equal((await directory.group(group))?.name, `as of ${head}`)
  t.same((await directory.member(group, 'last'))?.spans, [{ from: head }])
  t.same((await directory.conversation('last', conv))?.spans, [{ from: head }])
}

t.test('files removed under the store are noticed before anything is acknowledged', async (t) => {
  const dir = await newDir(t)
  const store = await createLmdbStore({ dir })
  t.teardown(() => store.close())
  await store.log.append([append('u/alice/bob', 0, 1)])
  rmSync(dir, { recursive: true })
  await t.rejects(store.log.append([append('u/alice/bob', 1, 1)]), { name: 'StoreUnavailable', message: /removed or replaced/ })
  await t.rejects(store.check(), StoreUnavailable)
  await t.rejects(store.directory.putUser({ user: 'a', createdTs: 1 }), StoreUnavailable)
})

t.test('a store of a newer schema is refused and left as it is', async (t) => {
  const dir = await newDir(t)
  await (await createLmdbStore({ dir })).close()
  const { open } = await import('lmdb')
  const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
  const root = open<Buffer, Buffer>({ path: join(dir, 'store'), ...binary })
  await root.openDB<Buffer, Buffer>({ name: 'meta', ...binary }).put(Buffer.from('schema'), Buffer.from('99'))
  await root.close()
  await t.rejects(createLmdbStore({ dir }), { message: /has schema 99, this version of Parley knows schema 2/ })
  await t.rejects(createLmdbStore({ dir }), { message: /has schema 99/ }, 'the lock was given back')
})

t.test('the files are for the owner alone', async (t) => {
  const dir = join(await newDir(t), 'deep', 'data')
  const store = await createLmdbStore({ dir })
  t.teardown(() => store.close())
  for (const path of [dir, join(dir, 'store')]) t.equal((await stat(path)).mode & 0o777, 0o700, path)
})

t.test('a full disk refuses, loses nothing, and is forgotten when there is room again', { timeout: 100_000 }, async (t) => {
  const dir = await smallDisk(t)
  if (dir === undefined) return
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', onUnhandled)
  t.teardown(() => process.off('unhandledRejection', onUnhandled))
  const options = { dir, generationCostMax: 300, freeBytesMin: 1024 * 1024 }
  let store = await createLmdbStore(options)
  t.teardown(() => store.close())
  writeFileSync(join(dir, 'ballast'), Buffer.alloc(3 * 1024 * 1024))

  const head = await appendUntilFull(t, store)
  const more = append('g/team', head, 50, {
    effects: [{ kind: 'member', group: 'team', record: { user: 'eve', role: 'member', spans: [{ from: 1 }] } }],
  })
  for (let i = 0; i < 20; i++) {
    const others = [
      store.openTopics.put(`k${i}`, Buffer.alloc(2_000_000)),
      store.sessions.remove('a', 'b'),
      store.directory.putUser({ user: 'a', createdTs: i }),
    ]
    if (i % 2 === 0) await Promise.resolve()
    await t.rejects(store.log.append([large(more)]), { name: 'StoreUnavailable', message: new RegExp(dir) })
    await Promise.allSettled(others)
  }
  await t.rejects(store.check(), StoreUnavailable)
  await t.rejects(store.openTopics.put('k', Buffer.alloc(2_000_000)), StoreUnavailable)
  await checkTeam(t, store, head)
  t.equal(await store.directory.member('team', 'eve'), undefined, 'nothing of the failed call is visible')

  rmSync(join(dir, 'ballast'))
  await eventually(() => store.check().then(() => true))
  t.same(await store.log.append([large(more)]), [])
  await checkTeam(t, store, head + 50)
  t.ok(await store.directory.member('team', 'eve'))
  await store.close()
  store = await createLmdbStore(options)
  await checkTeam(t, store, head + 50)
  t.same(unhandled, [], 'no promise was left alone')
})

const large = (item: ReturnType<typeof append>) => ({
  ...item,
  entries: item.entries.map((one) => ({ ...one, payload: Buffer.alloc(2_000, 'x') })),
})

async function appendUntilFull(t: Test, store: Store): Promise<number> {
  for (let head = 0; head < 100_000; head += 20) {
    try {
      t.same(await store.log.append([large(append('g/team', head, 20))]), [])
    } catch (error) {
      t.ok(error instanceof StoreUnavailable, String(error))
      t.ok(head > 0, `${head} entries fitted`)
      return head
    }
  }
  throw new Error('the disk was never full')
}

async function checkTeam(t: Test, { log }: Store, head: number): Promise<void> {
  t.equal(await log.head('g/team'), head)
  const all = await log.read('g/team', 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  t.same([all.length, all.findIndex((found, i) => found.seq !== i + 1)], [head, -1])
  t.equal(await log.findSent('g/team', 'alice', `c${head}`), head)
  t.equal(await log.findSent('g/team', 'alice', `c${head + 1}`), undefined)
}

t.test('what was rewritten is in no file, after scrub and compact', async (t) => {
  const dir = await newDir(t)
  const secret = 'the-secret-of-seq-'
  let store = await createLmdbStore({ dir, generationCostMax: 100 })
  const withSecret = (head: number, count: number) => {
    const item = append('u/alice/bob', head, count)
    const entries = item.entries.map((one) => ({ ...one, payload: Buffer.from(`${secret}${one.seq} ${'x'.repeat(one.seq % 900)}`) }))
    return { ...item, entries }
  }
  for (let head = 0; head < 1_000; head += 50) await store.log.append([withSecret(head, 50), append('g/team', head, 50)])
  await store.records.put('profiles/alice', Buffer.from(`${secret}profile`))
  t.ok(filesWith(dir, secret).length >= 2, 'in the journal and in the tables')
  for (let seq = 1; seq <= 1_000; seq += 100)
    await store.log.rewrite('u/alice/bob', new Map(Array.from({ length: 100 }, (_, i) => [seq + i, Buffer.from('gone')])))
  await store.records.remove('profiles/alice')
  await store.log.scrub()
  const isInJournal = () => filesWith(join(dir, 'store', 'journal'), secret).length > 0
  t.notOk(isInJournal(), 'while it is open')
  await store.close()
  const { bytes, bytesBefore } = await compactLmdbStore(dir)
  t.ok(bytes < bytesBefore, `${bytes} bytes of ${bytesBefore}`)
  t.same(filesWith(dir, secret), [])
  store = await createLmdbStore({ dir })
  t.teardown(() => store.close())
  const all = await store.log.read('u/alice/bob', 1, 2_000, 2_000)
  t.same([all.length, all.findIndex(({ payload }) => payload.toString() !== 'gone')], [1_000, -1])
  t.equal(await store.log.findSent('u/alice/bob', 'alice', 'c777'), 777)
  t.same(await store.log.append([append('u/alice/bob', 1_000)]), [])
  await t.rejects(compactLmdbStore(dir), /is in use by/)
})

t.test('the journal asks for O_DSYNC, which no kill -9 would miss', { skip: process.platform !== 'linux' }, async (t) => {
  const dir = await newDir(t)
  const store = await createLmdbStore({ dir })
  t.teardown(() => store.close())
  await store.log.append([append('g/team', 0, 1)])
  const flags = readdirSync('/proc/self/fd').flatMap((fd) => {
    const link = `/proc/self/fd/${fd}`
    // The descriptor by which they were listed is gone.
    if (!existsSync(link) || !readlinkSync(link).startsWith(join(dir, 'store', 'journal'))) return []
    return [Number.parseInt(/^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8)]
  })
  t.ok(flags.length > 0)
  for (const each of flags) t.equal(each & constants.O_DSYNC, constants.O_DSYNC)
})
