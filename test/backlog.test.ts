/** What a returning session is sent: which seqs it may see, what its cursors leave over, where it is cut, and what is named. */
import t from 'tap'
import { planBacklog, unreadOf, visibleHead, visibleRanges } from '../broker/backlog.js'
import type { ConversationRow } from '../broker/store/store.js'
import { createRandom, newSeed } from './contract/entries.js'

const roomy = { sessionMax: 1_000_000, conversationMax: 1_000_000 }
const row = (conv: string, more: Partial<ConversationRow> = {}): ConversationRow => ({ conv, read: 0, sent: 0, ...more })

t.test('spans decide what is visible', async (t) => {
  const spans = [{ from: 3, to: 5 }, { from: 9 }]
  t.same(visibleRanges(spans, 1, 12), [
    { next: 3, last: 5 },
    { next: 9, last: 12 },
  ])
  t.same(visibleRanges(spans, 4, 8), [{ next: 4, last: 5 }])
  t.same(visibleRanges(spans, 6, 8), [])
  t.same(visibleRanges(undefined, 1, 2), [{ next: 1, last: 2 }])
  t.same(visibleRanges([], 1, 2), [])
  t.equal(visibleHead(row('g/x', { spans: [{ from: 3, to: 5 }] }), 12), 5)
  t.equal(visibleHead(row('g/x', { spans: [{ from: 13 }] }), 12), 0)
})

t.test('visible seqs, one by one', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let round = 0; round < 2_000; round++) {
    const spans: { from: number; to?: number }[] = []
    for (let at = 1 + random(5); at < 30 && spans.length < 4; at = (spans.at(-1)?.to ?? 99) + 1 + random(6)) {
      spans.push(random(5) === 0 ? { from: at } : { from: at, to: at + random(6) })
    }
    const from = 1 + random(20)
    const to = random(30)
    const seqs: number[] = []
    for (const { next, last } of visibleRanges(spans, from, to)) for (let seq = next; seq <= last; seq++) seqs.push(seq)
    const expected: number[] = []
    for (let seq = from; seq <= to; seq++) if (spans.some((span) => span.from <= seq && seq <= (span.to ?? seq))) expected.push(seq)
    if (seqs.join() !== expected.join()) return t.same(seqs, expected, JSON.stringify({ spans, from, to }))
  }
})

t.test('unread is never below 0 and leaves the own messages out', async (t) => {
  t.equal(unreadOf(row('u/a/b', { read: 3 }), 10), 7)
  t.equal(unreadOf(row('u/a/b', { read: 3, sent: 9 }), 10), 1)
  t.equal(unreadOf(row('u/a/b', { read: 12 }), 10), 0)
  t.equal(unreadOf(row('g/x', { spans: [{ from: 8 }] }), 10), 2)
  t.equal(unreadOf(row('g/x', { spans: [{ from: 2, to: 4 }] }), 10), 2)
})

t.test('the backlog starts behind the cursor', async (t) => {
  const rows = [row('u/a/b', { read: 10 }), row('g/x', { spans: [{ from: 4 }] }), row('u/a/c', { read: 5 })]
  const heads = [
    { head: 10, ts: 1 },
    { head: 6, ts: 2 },
    { head: 5, ts: 3 },
  ]
  const plan = planBacklog('a', rows, heads, new Map([['u/a/b', 7]]), roomy)
  t.same(
    [...plan.ranges],
    [
      ['u/a/c', [{ next: 1, last: 5 }]],
      ['g/x', [{ next: 4, last: 6 }]],
      ['u/a/b', [{ next: 8, last: 10 }]],
    ],
  )
  t.same(plan.heads, { 'u/c': 5, 'g/x': 6, 'u/b': 10 })
  t.equal(plan.truncated, undefined)
})

t.test('a clean session has no backlog and hears of what is unread', async (t) => {
  const rows = [row('u/a/b', { read: 4 }), row('u/a/c', { read: 5 })]
  const heads = [
    { head: 10, ts: 1 },
    { head: 5, ts: 2 },
  ]
  const plan = planBacklog('a', rows, heads, undefined, roomy)
  t.equal(plan.ranges.size, 0)
  t.same(plan.heads, { 'u/b': 10 })
})

t.test('it is cut at the old end, by conversation and by session, and named', async (t) => {
  const rows = [row('u/a/b'), row('u/a/c'), row('g/x', { spans: [{ from: 1, to: 4 }, { from: 8 }] })]
  const heads = [
    { head: 100, ts: 1 },
    { head: 100, ts: 2 },
    { head: 10, ts: 3 },
  ]
  const plan = planBacklog('a', rows, heads, new Map(), { sessionMax: 16, conversationMax: 5 })
  t.same(plan.ranges.get('g/x'), [
    { next: 3, last: 4 },
    { next: 8, last: 10 },
  ])
  t.same(plan.ranges.get('u/a/c'), [{ next: 96, last: 100 }])
  t.same(plan.ranges.get('u/a/b'), [{ next: 96, last: 100 }])
  t.same(plan.truncated, { 'g/x': [1, 2], 'u/c': [1, 95], 'u/b': [1, 95] })
  const tight = planBacklog('a', rows, heads, new Map(), { sessionMax: 6, conversationMax: 5 })
  t.same(tight.ranges.get('u/a/c'), [{ next: 100, last: 100 }], 'the newest conversation goes first')
  t.notOk(tight.ranges.has('u/a/b'))
  t.same(tight.truncated?.['u/b'], [1, 100])
})

t.test('no more than 500 heads are named, the newest', async (t) => {
  const rows = Array.from({ length: 600 }, (_, i) => row(`u/a/b${i}`))
  const plan = planBacklog(
    'a',
    rows,
    rows.map((_, i) => ({ head: 1, ts: i })),
    new Map(),
    roomy,
  )
  t.equal(Object.keys(plan.heads).length, 500)
  t.ok('u/b599' in plan.heads)
  t.equal(plan.ranges.size, 600, 'all of them are replayed')
})
