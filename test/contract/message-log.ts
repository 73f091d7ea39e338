/** The contract of MessageLog: order, gap freedom, atomicity, conflicts, deduplication for ever, bounded reads. */
import type { Test } from 'tap'
import type { LogEntry } from '../../broker/store/store.js'
import { append, entry } from './entries.js'
import { testLogAgainstModel } from './message-log-model.js'
import { listOf, nowAndReopened, type OpenStore } from './store-under-test.js'

const conv = 'u/alice/bob'
const seqs = (entries: LogEntry[]) => entries.map(({ seq }) => seq)

export function testReadEach(t: Test, open: OpenStore): void {
  t.test('entries of many conversations are read together, wherever they stand', async (t) => {
    const tested = await open(t)
    await tested.store.log.append([append(conv, 0, 5), append('g/team', 0, 1)])
    await tested.store.log.append([append(conv, 5, 1), append('g/team', 1, 300)])
    const places = [
      { conv, seq: 6 },
      { conv: 'g/team', seq: 300 },
      { conv, seq: 7 },
      { conv, seq: 3 },
      { conv, seq: 5 },
      { conv: 'g/nothing', seq: 1 },
      { conv, seq: 0 },
      { conv: 'g/team', seq: 301 },
      { conv, seq: 6 },
    ]
    for await (const { log } of nowAndReopened(tested)) {
      const read = await log.readEach(places)
      t.same(
        read.map((found) => found?.seq),
        [6, 300, undefined, 3, 5, undefined, undefined, 301, 6],
      )
      t.same(read[3], (await log.read(conv, 3, 3, 1))[0])
      t.same(await log.readEach([]), [])
    }
  })
}

export function testMessageLog(t: Test, open: OpenStore): void {
  testReadEach(t, open)

  t.test('hundreds of conversations are asked for together, every other one unknown', async (t) => {
    const tested = await open(t)
    const convs = Array.from({ length: 300 }, (_, i) => `g/many${i}`)
    for (let at = 0; at < convs.length; at += 50) {
      await tested.store.log.append(convs.slice(at, at + 50).flatMap((conv, i) => (i % 2 === 0 ? [append(conv, 0, 1 + (i % 3))] : [])))
    }
    const lengthOf = (i: number): number => (i % 2 === 0 ? 1 + ((i % 50) % 3) : 0)
    for await (const { log } of nowAndReopened(tested)) {
      const heads = await log.heads(convs)
      t.same(
        heads.map(({ head }) => head),
        convs.map((_, i) => lengthOf(i)),
      )
      const lasts = await log.readEach(convs.map((conv, i) => ({ conv, seq: Math.max(1, lengthOf(i)) })))
      t.same(
        lasts.map((last) => last?.seq),
        convs.map((_, i) => (lengthOf(i) === 0 ? undefined : lengthOf(i))),
      )
    }
  })

  t.test('an entry comes back exactly as it was appended', async (t) => {
    const { store } = await open(t)
    const one = entry(1)
    t.same(await store.log.append([append(conv, 0, [one])]), [])
    t.same(await store.log.read(conv, 1, 1, 10), [one])
    t.equal(await store.log.head(conv), 1)
    t.same(await store.log.heads([conv, 'g/nothing']), [
      { head: 1, ts: one.ts },
      { head: 0, ts: 0 },
    ])
  })

  t.test('entries are read from any place, of whatever appends they come', async (t) => {
    const tested = await open(t)
    const sizes = [1, 40, 3, 1]
    let head = 0
    for (const size of sizes) {
      await tested.store.log.append([append(conv, head, size)])
      head += size
    }
    for await (const { log } of nowAndReopened(tested)) {
      for (const from of [1, 2, 3, 20, 41, 42, 43, 44, 45, 46, 70])
        t.same(
          seqs(await log.read(conv, from, 100, 2)),
          [from, from + 1].filter((seq) => seq <= head),
          `from ${from}`,
        )
    }
  })

  t.test('an empty conversation has head 0 and nothing to read', async (t) => {
    const { store } = await open(t)
    t.equal(await store.log.head(conv), 0)
    t.same(await store.log.read(conv, 1, 100, 100), [])
    t.equal(await store.log.findSent(conv, 'alice', 'c1'), undefined)
    t.same(await store.log.append([]), [])
  })

  t.test('a head that is not the real one writes nothing of that conversation, and all of the others', async (t) => {
    const { store } = await open(t)
    await store.log.append([append(conv, 0, 3)])
    const late = append(conv, 2, [entry(3, 'bob', 'late')], {
      effects: [{ kind: 'member', group: 'team', record: { user: 'bob', role: 'member', spans: [{ from: 1 }] } }],
      retransmits: [{ session: 'bob/phone', packetId: 9, digest: 'd', epoch: 1, order: 1, seq: 3 }],
    })
    const early = append('u/bob/carol', 5, [entry(6, 'bob', 'early')])
    t.same(await store.log.append([late, append('g/team', 0, 2), early]), [conv, 'u/bob/carol'])
    t.same(seqs(await store.log.read(conv, 1, 10, 10)), [1, 2, 3])
    t.equal((await store.log.read(conv, 3, 3, 1))[0]?.id, 'c3')
    t.equal(await store.log.findSent(conv, 'bob', 'late'), undefined)
    t.equal(await store.directory.member('team', 'bob'), undefined)
    t.equal(await store.log.findRetransmit('bob/phone', 9), undefined)
    t.equal(await store.log.head('u/bob/carol'), 0)
    t.same(await store.directory.conversationsOf('carol'), [])
    t.equal(await store.log.head('g/team'), 2)
  })

  t.test('of two appends at the same head one is refused', async (t) => {
    const { store } = await open(t)
    const results = await Promise.all([1, 2, 3].map((n) => store.log.append([append(conv, 0, [entry(1, 'alice', `try${n}`)])])))
    t.equal(results.filter((conflicts) => conflicts.length === 0).length, 1)
    t.equal(await store.log.head(conv), 1)
    const [stored] = await store.log.read(conv, 1, 9, 9)
    for (const n of [1, 2, 3]) t.equal(await store.log.findSent(conv, 'alice', `try${n}`), stored?.id === `try${n}` ? 1 : undefined)
  })

  t.test('while an append is in flight reads show the state before or after it, never a part', async (t) => {
    const { store } = await open(t)
    await store.log.append([append(conv, 0, 2)])
    let appending = true
    const appended = store.log.append([append(conv, 2, 700)]).then(() => (appending = false))
    while (appending) {
      const head = await store.log.head(conv)
      const count = (await store.log.read(conv, 1, 1_000, 1_000)).length
      t.ok((head === 2 || head === 702) && (count === 2 || count === 702), `head ${head}, ${count} entries`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await appended
    t.equal(await store.log.findSent(conv, 'alice', 'c702'), 702)
  })

  t.test('every sender and id is found again, after many appends and a restart', async (t) => {
    const tested = await open(t)
    for (let head = 0; head < 600; head += 20) {
      await tested.store.log.append([append(conv, head, 20), append('g/team', head, 20)])
    }
    const log = (await tested.reopen()).log
    const keys = Array.from({ length: 601 }, (_, i) => ({ conv, from: 'alice', id: `c${i + 1}` }))
    t.same(
      await log.findSentAll(keys),
      keys.map((_, i) => (i < 600 ? i + 1 : undefined)),
    )
    t.equal(await log.findSent(conv, 'bob', 'c1'), undefined, 'the sender is part of the key')
    t.equal(await log.findSent('g/other', 'alice', 'c1'), undefined, 'the conversation is part of the key')
    t.same(
      seqs(await log.read('g/team', 1, 1_000, 1_000)),
      Array.from({ length: 600 }, (_, i) => i + 1),
    )
    t.same(await log.append([append(conv, 600)]), [])
  })

  t.test('a read is bounded by from, to, limit and bytes, and gives at least one entry', async (t) => {
    const { store } = await open(t)
    for (let head = 0; head < 500; head += 50) await store.log.append([append(conv, head, 50)])
    t.same(seqs(await store.log.read(conv, 49, 52, 100)), [49, 50, 51, 52])
    t.same(seqs(await store.log.read(conv, 120, 500, 3)), [120, 121, 122])
    t.same(seqs(await store.log.read(conv, 499, Number.MAX_SAFE_INTEGER, 10)), [499, 500])
    t.same(await store.log.read(conv, 501, 600, 10), [])
    t.same(await store.log.read(conv, 10, 9, 10), [])
    t.same(seqs(await store.log.read(conv, 0, 2, 10)), [1, 2])
    t.same(seqs(await store.log.read(conv, 7, 500, 100, 1)), [7], 'one, however large')
    const bytes = entry(7).payload.length
    const some = await store.log.read(conv, 1, 500, 500, 10 * bytes)
    t.ok(some.length >= 2 && some.length < 20, `${some.length} entries for room for about 10`)
  })

  t.test('ids and payloads of every kind survive', async (t) => {
    const tested = await open(t)
    const ids = [
      '__proto__',
      'constructor',
      'toString',
      ' ',
      '\u0000',
      'a\u0000b',
      'a\nb',
      'ä',
      'é'.normalize('NFD'),
      '日本語',
      '👩‍👩‍👧',
      '\ud800',
      'ÿ',
      '😀'.repeat(64),
      'x'.repeat(64),
    ]
    const team = 'g/__proto__'
    const entries = ids.map((id, i) => ({
      ...entry(i + 1, i % 2 === 0 ? '__proto__' : 'constructor', id),
      payload: Buffer.from([0, 255, i]),
    }))
    await tested.store.log.append([append(team, 0, entries), append('u/__proto__/constructor', 0, entries)])
    for await (const { log } of nowAndReopened(tested)) {
      for (const name of [team, 'u/__proto__/constructor']) {
        t.same(await log.read(name, 1, 100, 100), entries)
        for (const { from, id, seq } of entries) t.equal(await log.findSent(name, from, id), seq, `id ${JSON.stringify(id)}`)
      }
    }
    t.equal(await tested.store.log.findSent(team, '__proto__', 'é'), undefined, 'ids are compared exactly')
  })

  t.test('the largest names, an empty payload and a large one fit', async (t) => {
    const { store } = await open(t)
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)]
    const name = `u/${a}/${b}`
    const large = { ...entry(2, b, '💬'.repeat(64)), device: 'd'.repeat(64), payload: Buffer.alloc(1024 * 1024, 'x') }
    const entries = [{ ...entry(1, a, '1'), payload: Buffer.alloc(0), device: '' }, large, entry(3, a, '3')]
    await store.log.append([
      append(name, 0, entries, {
        retransmits: [{ session: `${a}/${b}`, packetId: 65_535, digest: 'e'.repeat(64), epoch: Date.now(), order: 2 ** 50, seq: 3 }],
      }),
    ])
    t.same(await store.log.read(name, 1, 3, 3), entries)
    t.equal(await store.log.findSent(name, b, large.id), 2)
    t.match(await store.log.findRetransmit(`${a}/${b}`, 65_535), {
      session: `${a}/${b}`,
      packetId: 65_535,
      digest: 'e'.repeat(64),
      conv: name,
      seq: 3,
      ts: entry(3).ts,
    })
    t.same(
      (await store.directory.conversationsOf(b)).map((row) => row.sent),
      [2],
    )
  })

  t.test('neighbouring conversations do not mix', async (t) => {
    const { store } = await open(t)
    const names = ['g/a', 'g/a.b', 'g/a-b', 'g/a~', 'g/A', 'u/a/b', 'u/a/b.', 'u/a/bb', 'u/a-/b']
    for (const [i, name] of names.entries()) await store.log.append([append(name, 0, i + 1)])
    for (const [i, name] of names.entries()) {
      t.equal(await store.log.head(name), i + 1, name)
      t.equal((await store.log.read(name, 1, 100, 100)).length, i + 1, name)
    }
  })

  t.test('a send without id is known by session and packet id; the next one takes its place', async (t) => {
    const tested = await open(t)
    const { isShared } = tested.store
    const session = 'alice/phone'
    const sent = { session, packetId: 7, digest: 'one' }
    await tested.store.log.append([append(conv, 0, 2, { retransmits: [{ ...sent, epoch: 5, order: 1, seq: 2 }] })])
    for await (const { log } of nowAndReopened(tested)) {
      const found = { ...sent, conv, seq: 2, ts: entry(2).ts, epoch: isShared ? 5 : 0 }
      t.same(await log.findRetransmit(session, 7), found)
      t.same(await log.findRetransmit(session, 7 + 256), found, 'the last of those with equal bits')
      t.equal(await log.findRetransmit(session, 8), undefined)
      t.equal(await log.findRetransmit('alice/phone2', 7), undefined)
    }
    await tested.store.log.append([append(conv, 2, 1, { retransmits: [{ ...sent, digest: 'two', epoch: 5, order: 2, seq: 3 }] })])
    t.match(await tested.store.log.findRetransmit(session, 7), { digest: 'two', seq: 3 })
    await tested.store.log.append([append(conv, 3, 1, { retransmits: [{ ...sent, packetId: 263, epoch: 6, order: 1, seq: 4 }] })])
    t.match(await tested.store.log.findRetransmit(session, 7), { packetId: 263, seq: 4, epoch: isShared ? 6 : 0 })
  })

  t.test('of sends without id the latest is kept, whichever was stored last', async (t) => {
    const { store } = await open(t)
    if (!store.isShared) return
    const sent = { session: 'alice/phone', packetId: 7, digest: 'd' }
    const places = [
      [10, 2],
      [9, 3],
      [10, 1],
      [10, 12],
      [10, 3],
      [100, 1],
      [11, 99],
    ] as const
    const latest: number[] = []
    for (const [at, [epoch, order]] of places.entries()) {
      await store.log.append([append(conv, at, 1, { retransmits: [{ ...sent, epoch, order, seq: at + 1 }] })])
      latest.push((await store.log.findRetransmit('alice/phone', 7))?.seq ?? 0)
    }
    t.same(latest, [1, 1, 1, 4, 4, 6, 6])
  })

  t.test('a payload is replaced: order, sender, time and id stay, and so does all that was not named', async (t) => {
    const tested = await open(t)
    const { log } = tested.store
    for (let head = 0; head < 300; head += 60) await log.append([append(conv, head, 60), append('g/team', head, 60)])
    const gone = new Map([3, 4, 61, 180, 300].map((seq) => [seq, Buffer.from(`gone ${seq}`)]))
    await log.rewrite(conv, new Map([...gone, [301, Buffer.from('never there')]]))
    await log.rewrite('g/nothing', gone)
    await log.rewrite(conv, new Map())
    await log.scrub()
    await log.append([append(conv, 300)])
    for await (const { log, directory } of nowAndReopened(tested)) {
      const expected = Array.from({ length: 301 }, (_, i) => {
        const payload = gone.get(i + 1)
        return payload === undefined ? entry(i + 1) : { ...entry(i + 1), device: '', payload }
      })
      t.same(await log.read(conv, 1, 400, 400), expected)
      t.same(await log.read(conv, 180, 180, 1), expected.slice(179, 180))
      t.equal(await log.findSent(conv, 'alice', 'c180'), 180, 'a resend is still one')
      t.same(await log.heads([conv, 'g/nothing']), [
        { head: 301, ts: entry(301).ts },
        { head: 0, ts: 0 },
      ])
      t.equal((await directory.conversation('alice', conv))?.sent, 301)
      t.ok((await log.read('g/team', 1, 400, 400)).every(({ seq, payload }) => payload.equals(entry(seq).payload)))
    }
  })

  t.test('while payloads are replaced readers see the old or the new one, and appends go on', async (t) => {
    const { store } = await open(t)
    const { log } = store
    await log.append([append(conv, 0, 40)])
    let rewriting = true
    const rewrite = async (): Promise<void> => {
      for (let seq = 1; seq <= 40; seq += 10)
        await log.rewrite(conv, new Map(Array.from({ length: 10 }, (_, i) => [seq + i, Buffer.from(`gone ${seq + i}`)])))
      await log.scrub()
    }
    const rewritten = rewrite().finally(() => (rewriting = false))
    for (let head = 40; rewriting; head++) {
      t.same(await log.append([append(conv, head)]), [])
      const found = await log.read(conv, 1, 1_000, 1_000)
      t.equal(found.length, head + 1)
      for (const { seq, payload } of found) t.ok(payload.equals(entry(seq).payload) || (seq <= 40 && payload.toString() === `gone ${seq}`))
    }
    await rewritten
    t.ok((await log.read(conv, 1, 40, 40)).every(({ seq, payload }) => payload.toString() === `gone ${seq}`))
  })

  t.test('all conversations are listed in the order of their names, and retransmissions by session', async (t) => {
    const tested = await open(t)
    const names = ['g/a', 'g/a.b', 'g/a-b', 'u/a/b', 'u/a/b.', ...Array.from({ length: 300 }, (_, i) => `g/x${i}`)]
    await tested.store.log.append(names.map((name) => append(name, 0)))
    const sent = { packetId: 7, digest: 'd', seq: 2, epoch: 0 }
    await tested.store.log.append([
      append('g/a', 1, 1, { retransmits: ['b/web', 'a/phone-2', 'a/phone'].map((session) => ({ ...sent, session, order: 1 })) }),
    ])
    for await (const { log } of nowAndReopened(tested)) {
      t.same(await listOf(log.conversations()), [...names].sort())
      t.same(await listOf(log.conversations('g/x98')), ['g/x99', 'u/a/b', 'u/a/b.'])
      t.same(
        await listOf(log.retransmits()),
        ['a/phone', 'a/phone-2', 'b/web'].map((session) => ({ ...sent, session, conv: 'g/a', ts: entry(2).ts })),
      )
    }
  })

  testLogAgainstModel(t, open)
}
