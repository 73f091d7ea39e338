/** What presence keeps of its reads: it is asked once, bounded, and forgotten when it is told to or when it failed. */
import t from 'tap'
import { Recent } from '../plugins/presence/recent.js'

t.test('a key is read once while it is kept, and again when it must be newer or was forgotten', async (t) => {
  let reads = 0
  const recent = new Recent({ read: async (key) => `${key} ${++reads}`, keptMs: 60_000, keysMax: 10 })
  t.same(await Promise.all([recent.of('a'), recent.of('a'), recent.of('b')]), ['a 1', 'a 1', 'b 2'])
  t.equal(await recent.of('a', performance.now()), 'a 3')
  t.equal(await recent.of('a'), 'a 3')
  recent.forget('a')
  t.equal(await recent.of('a'), 'a 4')
  t.equal(await recent.of('b'), 'b 2')
})

t.test('what is read while it is forgotten is not kept', async (t) => {
  const answers: ((value: string) => void)[] = []
  const recent = new Recent({ read: () => new Promise<string>((resolve) => answers.push(resolve)), keptMs: 60_000, keysMax: 10 })
  const before = recent.of('a')
  recent.forget('a')
  const after = recent.of('a')
  answers[0]?.('old')
  answers[1]?.('new')
  t.same([await before, await after, await recent.of('a')], ['old', 'new', 'new'])
})

t.test('a failed read is not kept, nor are more keys than the bound', async (t) => {
  let reads = 0
  const read = async (key: string): Promise<string> => {
    reads++
    if (reads === 1) throw new Error('not now')
    return key
  }
  const recent = new Recent({ read, keptMs: 60_000, keysMax: 2 })
  await t.rejects(recent.of('a'), { message: 'not now' })
  for (const key of ['a', 'b', 'c']) await recent.of(key)
  t.equal(reads, 4)
  await recent.of('c')
  await recent.of('a')
  t.equal(reads, 5, 'the oldest had gone')
})

t.test('nothing is kept for longer than it may', async (t) => {
  let reads = 0
  const recent = new Recent({ read: async () => ++reads, keptMs: 0, keysMax: 10 })
  const first = await recent.of('a')
  await new Promise((resolve) => setImmediate(resolve))
  t.ok((await recent.of('a')) > first)
})
