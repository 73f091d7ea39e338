/** Copying one store into another: all of it, cut off at any write and begun again, and never over anything else. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { assertWhole } from '../broker/migrate/claim.js'
import { copyStore } from '../broker/migrate/copy-store.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { createMongodbStore } from '../broker/store/mongodb/mongodb-store.js'
import { type Store, StoreUnavailable } from '../broker/store/store.js'
import { append, createRandom, entry, newSeed } from './contract/entries.js'
import { dump } from './helper/dump.js'
import { newDatabase, startMongodb } from './helper/mongodb.js'
import { newDir } from './helper/new-dir.js'

const cli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))
const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PARLEY_')))

async function openLmdb(t: Test, dir: string): Promise<Store> {
  const store = await createLmdbStore({ dir, generationCostMax: 100 })
  t.teardown(() => store.close())
  return store
}

const newLmdb = async (t: Test): Promise<Store> => openLmdb(t, await newDir(t))

/** A store with something of everything. `conversations`: so many small ones as well. */
async function fill(store: Store, conversations = 3): Promise<void> {
  const { log, directory, sessions, records, openTopics } = store
  const users = ['alice', 'bob', 'carol', '__proto__']
  for (const user of users) await directory.putUser({ user, createdTs: 1, ...(user === 'bob' && { tokensFrom: 9 }) })
  await sessions.create(
    { user: 'bob', device: 'phone', createdTs: 2, seenTs: 3, epoch: 1 },
    new Map([
      ['u/alice/bob', 4],
      ['g/team', 1],
    ]),
  )
  await sessions.create({ user: 'alice', device: 'phone', createdTs: 2, seenTs: 5, epoch: 1 }, new Map())
  const now = Date.now()
  const recent = (seq: number, from: string) => ({ ...entry(seq, from), ts: now })
  await log.append([append('u/alice/bob', 0, [recent(1, 'alice'), recent(2, 'bob')])])
  await log.append([
    append('u/alice/bob', 2, [recent(3, 'alice')], {
      retransmits: [{ session: 'alice/phone', packetId: 300, digest: 'd', epoch: 7, order: 1, seq: 3 }],
    }),
  ])
  await log.append([append('u/alice/bob', 3, 700)])
  const odd = ['\ud800', 'a\u0000b', '😀', '__proto__'].map((id, i) => entry(i + 1, '__proto__', id))
  await log.append([append('u/__proto__/carol', 0, [...odd, { ...entry(5, 'carol'), payload: Buffer.alloc(300_000, 'x'), device: '' }])])
  await log.append([
    append('g/team', 0, 2, {
      effects: [
        { kind: 'group', record: { group: 'team', name: 'The team', createdTs: 1, membersMax: 500 } },
        { kind: 'member', group: 'team', record: { user: 'alice', role: 'owner', spans: [{ from: 1 }] } },
        { kind: 'member', group: 'team', record: { user: 'bob', role: 'member', spans: [{ from: 1 }] } },
        { kind: 'member', group: 'team', record: { user: 'carol', role: 'member', spans: [{ from: 2 }] } },
      ],
    }),
  ])
  await log.append([
    append('g/team', 2, 1, {
      effects: [
        { kind: 'member', group: 'team', record: { user: 'bob', role: undefined, spans: [{ from: 1, to: 3 }] } },
        { kind: 'member', group: 'team', record: { user: 'carol', role: 'admin', spans: [{ from: 2 }], mutedUntilTs: 77 } },
      ],
    }),
  ])
  await log.append(Array.from({ length: conversations }, (_, i) => append(`u/alice/peer${i}`, 0, 2)))
  await directory.setRead([
    { user: 'bob', conv: 'u/alice/bob', seq: 300 },
    { user: 'alice', conv: 'g/team', seq: 2 },
  ])
  await records.put('profiles/alice', Buffer.from('{"name":"Alice"}'))
  await records.put('friends/alice/bob', Buffer.from([0, 255]))
  await openTopics.put('retained/=a', Buffer.alloc(10, 'r'))
}

const quietly = (source: Store, target: Store) => copyStore({ source, target, progress: () => undefined, pausesMs: [0, 0] })

/** The store, but its nth write throws: every second one after it was done. */
function failing(store: Store, n: number, error: () => Error): Store {
  let writes = 0
  const fails =
    <A extends unknown[], R>(write: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const isIt = ++writes === n
      if (isIt && n % 2 === 0) throw error()
      const result = await write(...args)
      if (isIt) throw error()
      return result
    }
  const wrap = <T extends object>(part: T, names: readonly (keyof T)[]): T =>
    new Proxy(part, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown
        if (typeof value !== 'function') return value
        const bound = value.bind(target) as (...args: unknown[]) => Promise<unknown>
        return names.includes(name as keyof T) ? fails(bound) : bound
      },
    })
  return {
    ...store,
    log: wrap(store.log, ['append']),
    directory: wrap(store.directory, ['putUser', 'setRead']),
    sessions: wrap(store.sessions, ['create', 'saveCursors', 'remove']),
    records: wrap(store.records, ['put', 'remove']),
    openTopics: wrap(store.openTopics, ['put', 'remove']),
  }
}

t.test('everything is copied, and counted', async (t) => {
  const [source, target] = [await newLmdb(t), await newLmdb(t)]
  await fill(source)
  const { counts, differing } = await quietly(source, target)
  t.equal(differing, 0)
  t.same(Object.fromEntries(counts), {
    conversations: 6,
    messages: 703 + 5 + 3 + 6,
    groups: 1,
    users: 4,
    sessions: 2,
    records: 2,
    'application topics': 1,
  })
  t.same(await dump(target), await dump(source))
  await assertWhole(target)
})

t.test('cut off at any write and begun again: nothing twice, nothing missing', { timeout: 120_000 }, async (t) => {
  const source = await newLmdb(t)
  await fill(source)
  const expected = await dump(source)
  let n = 0
  for (let isCut = true; isCut; ) {
    const target = await newLmdb(t)
    const attempt = quietly(
      source,
      failing(target, ++n, () => new Error('cut off')),
    )
    isCut = await attempt.then(
      () => false,
      ({ message }) => message === 'cut off',
    )
    if (isCut) await t.rejects(assertWhole(target), /unfinished copy/, 'no server starts on it')
    if (isCut) t.equal((await quietly(source, target)).differing, 0, `cut off at write ${n}`)
    t.same(await dump(target), expected)
    await target.close()
  }
  t.ok(n > 15, `${n} writes`)
})

t.test('the old server ran once more between two attempts: the copy has that, too', async (t) => {
  const [source, target] = [await newLmdb(t), await newLmdb(t)]
  await fill(source)
  // The last write declares the copy whole.
  await t.rejects(
    quietly(
      source,
      failing(target, 17, () => new Error('cut off')),
    ),
    /cut off/,
  )
  await source.log.append([append('u/alice/bob', 703, 5)])
  await source.log.append([
    append('g/team', 3, 1, {
      effects: [{ kind: 'member', group: 'team', record: { user: 'alice', role: undefined, spans: [{ from: 1, to: 4 }] } }],
    }),
  ])
  await source.sessions.saveCursors([{ user: 'bob', device: 'phone', epoch: 1, conv: 'u/alice/bob', seq: 9 }], 8)
  await source.sessions.remove('alice', 'phone')
  await source.records.remove('profiles/alice')
  t.equal((await quietly(source, target)).differing, 0)
  t.same(await dump(target), await dump(source))
})

t.test('a store that is away for a moment is waited for; for longer, the operator is told how to go on', async (t) => {
  const [source, target] = [await newLmdb(t), await newLmdb(t)]
  await fill(source)
  const away = () => new StoreUnavailable('no primary')
  t.equal((await quietly(source, failing(target, 9, away))).differing, 0)
  const unclaimed = await newLmdb(t)
  const log = { conversations: () => nobody(away()) }
  await t.rejects(quietly(source, { ...unclaimed, log } as unknown as Store), {
    name: 'OperatorError',
    message: /no primary. Run the same command again/,
  })
})

// biome-ignore lint/correctness/useYield: it fails before it has anything to yield
async function* nobody(error: Error): AsyncGenerator<never> {
  throw error
}

t.test('a target with other content is left alone, and so is a whole copy', async (t) => {
  const [source, other, target] = [await newLmdb(t), await newLmdb(t), await newLmdb(t)]
  await fill(source)
  await other.directory.putUser({ user: 'dave', createdTs: 1 })
  const before = await dump(other)
  await t.rejects(quietly(source, other), { name: 'OperatorError', message: /the target holds users \(dave\) already: it must be empty/ })
  t.same(await dump(other), before)
  await quietly(source, target)
  await t.rejects(quietly(source, target), { name: 'OperatorError', message: /a copy of this data directory, whole since 2/ })
  await t.rejects(quietly(other, target), { name: 'OperatorError', message: /the copy of another data directory/ })
  t.same(await dump(target), await dump(source))
})

t.test('a copy that is not equal is found, named, and never declared whole', async (t) => {
  const source = await newLmdb(t)
  await fill(source)
  const spoilt: [string, RegExp, (store: Store) => Promise<unknown>][] = [
    [
      'a byte of a message',
      /^u\/alice\/peer1: the messages$/,
      ({ log }) => log.append([append('u/alice/peer1', 0, [entry(1), entry(2, 'alice', 'other')])]),
    ],
    ['a conversation more', /^u\/x\/y: 0 messages, 1 copied$/, ({ log }) => log.append([append('u/x/y', 0)])],
    [
      'a read position',
      /^the conversations of bob$/,
      ({ directory }) => directory.setRead([{ user: 'bob', conv: 'u/alice/bob', seq: 301 }]),
    ],
    ['a user more', /^users mallory$/, ({ directory }) => directory.putUser({ user: 'mallory', createdTs: 1 })],
  ]
  for (const [what, words, spoil] of spoilt) {
    const target = await newLmdb(t)
    await t.rejects(
      quietly(
        source,
        failing(target, what === 'a byte of a message' ? 2 : 17, () => new Error('cut off')),
      ),
      /cut off/,
    )
    await spoil(target)
    const { differing, differences } = await quietly(source, target)
    t.equal(differing, 1, what)
    t.match(differences[0], words)
    await t.rejects(assertWhole(target), /unfinished copy/)
  }
})

t.test('parley migrate, killed again and again', { timeout: 240_000 }, async (t) => {
  const url = await startMongodb(t)
  if (url === undefined) return
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const dir = await newDir(t)
  const filled = await createLmdbStore({ dir })
  await fill(filled, 100)
  const expected = await dump(filled)
  const database = newDatabase(url)
  const env = { ...inherited, PARLEY_DATA_DIR: dir, PARLEY_MONGODB_URL: database }

  const busy = await run(env)
  t.match(busy, { code: 2, err: /is in use by process/ }, 'while a server has the data directory')
  await filled.close()
  t.match(await run({ ...env, PARLEY_DATA_DIR: await newDir(t) }), { code: 2, err: /there is no store in/ })
  t.match(await run({ ...env, PARLEY_MONGODB_URL: '' }), { code: 2, err: /PARLEY_MONGODB_URL is not set/ })

  let kills = 0
  let last: Awaited<ReturnType<typeof run>> | undefined
  while (kills < 4 && last === undefined) {
    const cut = await run(env, random(4_000))
    if (cut.code === null) kills++
    else last = cut
  }
  t.comment(`killed ${kills} times`)
  const store = await createMongodbStore(database)
  t.teardown(() => store.close())
  last ??= await run(env)
  // One may have been killed behind its last write.
  if (last.code === 2 && kills > 0) t.match(last.err, /whole since .*nothing is left to do/)
  else t.match(last, { code: 0, out: /Copied and compared, all equal: 103 conversations, 911 messages, 1 groups, 4 users/, err: '' })
  t.same(await dump(store), expected)
  t.match(await run(env), { code: 2, err: /whole since .*nothing is left to do/ })
})

/** Killed with SIGKILL after so many ms, if given. */
async function run(env: Record<string, string | undefined>, killMs?: number): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [cli, 'migrate'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text
  })
  const timer = killMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killMs)
  const [code] = (await once(child, 'close')) as [number | null]
  clearTimeout(timer)
  return { code, out, err }
}
