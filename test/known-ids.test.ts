/** The sets of known ids never call new what is stored, whatever the ids, the limits and what was begun anew; and they do know what is new. */
import t, { type Test } from 'tap'
import { hashOfId, hashOfKey } from '../broker/store/id-hashes.js'
import { sentKey } from '../broker/store/lmdb/keys.js'
import { KnownIds, type KnownIdsLimits } from '../broker/store/lmdb/known-ids.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { append, createRandom, entry, newSeed } from './contract/entries.js'
import { newDir } from './helper/new-dir.js'

type Random = (below: number) => number

const strange = [
  '',
  '\0',
  'a\0b',
  '\0a',
  'ä',
  'é'.normalize('NFD'),
  '日本語',
  '👩‍👩‍👧',
  '\ud800',
  '\udc00x',
  '\ud800\ud800',
  'ÿ',
  '\u00ff\u0000',
  '~',
  '\u007f',
  '\u0080',
]

function randomText(random: Random, lengthMax: number): string {
  const kind = random(4)
  if (kind === 0) return strange[random(strange.length)] as string
  const below = [0, 0x80, 0x100, 0x10000][kind] as number
  return Array.from({ length: random(lengthMax + 1) }, () => String.fromCharCode(random(below))).join('')
}

t.test('the hash of an id is that of its key in the index', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let i = 0; i < 20_000; i++) {
    const conv = random(2) === 0 ? 'g/team' : 'u/alice/bob'
    const from = randomText(random, 64)
    const id = randomText(random, 128)
    const key = sentKey(conv, from, id)
    const hash = hashOfId(from, id)
    if (hash !== hashOfKey(key, conv.length + 1)) return t.fail(JSON.stringify({ from, id }))
    if (hash === 0) return t.fail('0 marks an empty slot')
  }
  t.equal(hashOfId('alice', 'a'), hashOfId('alice', 'a'))
})

/** Appends and questions at random against sets of texts. */
function runAgainstModel(t: Test, limits: KnownIdsLimits, readable: number): number {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const stored = new Map<string, Map<string, number>>()
  const of = (conv: string) => stored.get(conv) ?? (stored.set(conv, new Map()).get(conv) as Map<string, number>)
  const known = new KnownIds((conv) => (of(conv).size > readable ? undefined : of(conv).values()), limits)
  let news = 0
  for (let step = 0; step < 30_000; step++) {
    const conv = `g/${random(12)}`
    const from = `u${random(3)}`
    const id = random(3) === 0 ? randomText(random, 4) : `m${random(400)}`
    const isStored = of(conv).has(`${from}\n${id}`)
    const mayHave = known.mayHave(conv, from, id)
    if (isStored && !mayHave) t.fail(`${conv} ${from} ${JSON.stringify(id)} is called new`)
    if (!mayHave) news++
    if (known.count > limits.idsOfAll + readable) t.fail(`${known.count} ids are kept`)
    if (isStored || random(2) === 0) continue
    of(conv).set(`${from}\n${id}`, hashOfId(from, id))
    known.add(conv, from, id)
  }
  return news
}

t.test('what is stored is never called new, whatever the limits', async (t) => {
  const wide = { ids: 65_536, idsOfAll: 2_000_000, conversations: 100_000 }
  t.ok(runAgainstModel(t, wide, 2_048) > 5_000, 'most that is new is known to be new')
  for (const limits of [
    { ids: 20 },
    { idsOfAll: 50 },
    { conversations: 3 },
    { ids: 1, idsOfAll: 1, conversations: 1 },
    { ids: 100, idsOfAll: 150 },
  ]) {
    for (const readable of [0, 10, 1_000]) runAgainstModel(t, { ...wide, ...limits }, readable)
  }
  t.pass()
})

t.test('the bound of all ids holds when no conversation is new', async (t) => {
  const known = new KnownIds(() => [], { ids: 1_000, idsOfAll: 50, conversations: 100 })
  t.notOk(known.mayHave('g/a', 'alice', 'x'))
  for (let i = 0; i < 500; i++) {
    known.add('g/a', 'alice', `${i}`)
    t.ok(known.count <= 50)
  }
  known.mayHave('g/a', 'alice', 'x')
  for (let i = 0; i < 10; i++) known.add('g/a', 'alice', 'the same')
  t.equal(known.count, 1, 'an id counts once')
})

t.test('the index, the sets and what is in memory agree in the store', { timeout: 60_000 }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const dir = await newDir(t)
  const options = { dir, generationCostMax: 200 }
  let store = await createLmdbStore(options)
  t.teardown(() => store.close())
  const convs = ['g/short', 'g/long', 'u/alice/bob']
  const stored = new Map(convs.map((conv) => [conv, new Map<string, number>()]))
  for (let round = 0; round < 60; round++) {
    const batch = convs.map((conv) => {
      const ids = stored.get(conv) as Map<string, number>
      const head = ids.size
      const entries = []
      const count = conv === 'g/long' ? 60 : 1 + random(6)
      for (let i = 0; entries.length < count; i++) {
        const from = random(2) === 0 ? 'alice' : 'bob'
        const id = `${randomText(random, 60)}${random(2) === 0 ? '' : `${round}.${i}`}`
        if (ids.has(`${from}\n${id}`)) continue
        entries.push(entry(head + 1 + entries.length, from, id))
        ids.set(`${from}\n${id}`, head + entries.length)
      }
      return append(conv, head, entries)
    })
    t.same(await store.log.append(batch), [])
    if (random(6) === 0) {
      await store.close()
      store = await createLmdbStore(options)
    }
    for (const conv of convs) {
      const ids = stored.get(conv) as Map<string, number>
      const keys = [...ids.keys()].map((key) => key.split('\n') as [string, string])
      const asked = round % 10 === 9 ? keys : keys.slice(-20)
      const found = await store.log.findSentAll(asked.map(([from, id]) => ({ conv, from, id })))
      const wrong = asked.filter(([from, id], at) => ids.get(`${from}\n${id}`) !== found[at])
      if (wrong.length > 0) return t.same(wrong, [], `${conv} in round ${round}`)
      for (let i = 0; i < 20; i++) {
        const id = randomText(random, 60)
        if (!ids.has(`carol\n${id}`) && (await store.log.findSent(conv, 'carol', id)) !== undefined) return t.fail(JSON.stringify(id))
      }
    }
  }
  t.ok((stored.get('g/long')?.size ?? 0) > 2_048, 'longer than what is read to make a set')
})
