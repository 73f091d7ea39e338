/** A random run of appends, good and bad, with restarts, compared with a model that is only an array. The seed is printed. */
import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import type { LogEntry, Store } from '../../broker/store/store.js'
import { append, createRandom, entry, newSeed } from './entries.js'
import type { OpenStore } from './store-under-test.js'

const rounds = 100
const convs = ['u/alice/bob', 'u/alice/carol', 'u/dave/dave', 'g/team', 'g/all']
const senders = ['alice', 'bob', 'carol']

type Model = Map<string, LogEntry[]>

export function testLogAgainstModel(t: Test, open: OpenStore): void {
  t.test('a random run agrees with a model', async (t) => {
    const seed = newSeed()
    t.comment(`PARLEY_TEST_SEED=${seed}`)
    const random = createRandom(seed)
    const tested = await open(t)
    const model: Model = new Map(convs.map((conv) => [conv, []]))
    for (let round = 0; round < rounds; round++) {
      await appendSome(t, tested.store, model, random)
      if (random(25) === 0) await tested.reopen()
      if (random(10) === 0) await compare(t, tested.store, model, random)
    }
    await compare(t, await tested.reopen(), model, random)
  })
}

async function appendSome(t: Test, store: Store, model: Model, random: (below: number) => number): Promise<void> {
  const expected: string[] = []
  const accepted: { conv: string; entries: LogEntry[] }[] = []
  const batch = convs
    .filter(() => random(2) === 0)
    .map((conv) => {
      const stored = model.get(conv) ?? []
      const isWrong = random(8) === 0
      const head = stored.length + (isWrong ? 1 + random(3) : 0)
      const entries = Array.from({ length: 1 + random(40) }, (_, i) => {
        const from = senders[random(senders.length)] ?? ''
        return {
          ...entry(head + 1 + i, from, `${conv}-${isWrong ? 'wrong' : 'id'}-${head + 1 + i}`),
          payload: Buffer.alloc(random(600), `${i}`),
        }
      })
      if (isWrong) expected.push(conv)
      else accepted.push({ conv, entries })
      return append(conv, head, entries)
    })
  t.same(await store.log.append(batch), expected, 'conflicts')
  for (const { conv, entries } of accepted) model.get(conv)?.push(...entries)
}

async function compare(t: Test, store: Store, model: Model, random: (below: number) => number): Promise<void> {
  const heads = await store.log.heads(convs)
  for (const [at, conv] of convs.entries()) {
    const stored = model.get(conv) ?? []
    t.same(heads[at], { head: stored.length, ts: stored.at(-1)?.ts ?? 0 }, `head of ${conv}`)
    const all = await store.log.read(conv, 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    t.ok(isDeepStrictEqual(all, stored), `all of ${conv}`)
    const from = 1 + random(stored.length + 1)
    const to = from + random(300)
    const limit = 1 + random(200)
    t.same(
      await store.log.read(conv, from, to, limit),
      stored.slice(from - 1, Math.min(to, from - 1 + limit)),
      `${limit} of ${conv} ${from}…${to}`,
    )
    const found = await store.log.findSentAll(stored.map(({ from, id }) => ({ conv, from, id })))
    t.same(
      found,
      stored.map(({ seq }) => seq),
      `index of ${conv}`,
    )
    t.equal(await store.log.findSent(conv, 'alice', `${conv}-wrong-${stored.length + 1}`), undefined)
    for (const user of senders) await compareSent(t, store, conv, user, stored)
  }
}

async function compareSent(t: Test, store: Store, conv: string, user: string, stored: LogEntry[]): Promise<void> {
  const row = await store.directory.conversation(user, conv)
  const isListed = conv.startsWith('u/') && conv.split('/').includes(user) && stored.length > 0
  const sent = stored.findLast(({ from }) => from === user)?.seq ?? 0
  t.same(row, isListed ? { conv, read: 0, sent } : undefined, `${user}'s row of ${conv}`)
}
