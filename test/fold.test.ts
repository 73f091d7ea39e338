/** Folding: pure first, then as `history` and `sync` give it, with what a member may see. */
import t from 'tap'
import { type FoldableMessage, foldMessages } from '../broker/fold.js'
import { type Json, stage } from './helper/stage.js'

const text = (seq: number, body = `text ${seq}`, fields: Json = {}): FoldableMessage => ({
  seq,
  ts: seq,
  from: 'alice',
  type: 'text',
  body,
  ...fields,
})
const action = (seq: number, type: string, body: Json, from = 'alice'): FoldableMessage => ({ seq, ts: seq, from, type, body })

t.test('a recall leaves nothing of the content, and nothing brings it back', async (t) => {
  const messages = [
    text(1, 'secret', { re: 1, meta: { a: 1 }, mentions: ['bob'] }),
    action(2, 'reaction', { seq: 1, emoji: '+', on: true }, 'bob'),
    action(3, 'recall', { seq: 1 }),
    action(4, 'edit', { seq: 1, body: 'again' }),
    action(5, 'reaction', { seq: 1, emoji: '+', on: true }, 'bob'),
  ]
  const before = structuredClone(messages)
  t.strictSame(foldMessages(messages), [{ seq: 1, ts: 1, from: 'alice', type: 'text', recalled: { by: 'alice', seq: 3, ts: 3 } }])
  t.strictSame(messages, before, 'what was given is not changed')
})

t.test('the last edit counts, reactions are by user and can be taken back', async (t) => {
  const folded = foldMessages([
    text(1),
    action(2, 'edit', { seq: 1, body: 'one' }),
    action(3, 'reaction', { seq: 1, emoji: '+', on: true }, 'bob'),
    action(4, 'reaction', { seq: 1, emoji: '+', on: true }, 'carol'),
    action(5, 'reaction', { seq: 1, emoji: '+', on: true }, 'bob'),
    action(6, 'reaction', { seq: 1, emoji: '__proto__', on: true }, 'bob'),
    action(7, 'reaction', { seq: 1, emoji: '-', on: true }, 'bob'),
    action(8, 'reaction', { seq: 1, emoji: '-', on: false }, 'bob'),
    action(9, 'edit', { seq: 1, body: 'two' }),
  ])
  t.equal(folded.length, 1)
  t.equal(folded[0]?.body, 'two')
  t.strictSame(folded[0]?.edited, { seq: 9, ts: 9 })
  t.strictSame(Object.entries(folded[0]?.reactions as object), [
    ['+', ['carol', 'bob']],
    ['__proto__', ['bob']],
  ])
})

t.test('what speaks of a message that is not there stays, and conversations are not mixed up', async (t) => {
  const messages = [
    { conv: 'u/bob', ...text(1) },
    { conv: 'g/team', ...action(2, 'recall', { seq: 1 }) },
    { conv: 'u/bob', ...action(3, 'recall', { seq: 9 }) },
  ]
  t.strictSame(foldMessages(messages), messages)
})

t.test('history and sync, folded and raw', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  for (let n = 1; n <= 6; n++) await alice.sends('u/bob', `text ${n}`)
  await alice.sends('u/bob', { type: 'recall', body: { seq: 1 } })
  await alice.sends('u/bob', { type: 'edit', body: { seq: 2, body: 'edited' } })
  await bob.sends('u/alice', { type: 'reaction', body: { seq: 6, emoji: '👍', on: true } })
  t.equal((await bob.calls<{ messages: Json[] }>('history', { conv: 'u/alice' })).messages.length, 9, 'raw without being asked')
  const newest = await bob.calls<{ messages: Json[] } & Json>('history', { conv: 'u/alice', fold: true, limit: 5 })
  t.match(newest, { head: 9, first: 5, last: 9, folded_to: 9 })
  t.match(newest.messages, [{ seq: 5 }, { seq: 6, reactions: { '👍': ['bob'] } }])
  t.equal(newest.messages.length, 2)
  const { messages, first } = await bob.calls<{ messages: Json[] } & Json>('history', { conv: 'u/alice', fold: true, before: newest.first })
  t.equal(first, 1)
  t.equal(messages.length, 4)
  t.match(messages[0], { seq: 1, recalled: { by: 'alice', seq: 7 } })
  t.notOk('body' in (messages[0] as Json))
  t.match(messages[1], { seq: 2, body: 'edited', edited: { seq: 8 } })
  t.same(await bob.calls('history', { conv: 'u/alice', fold: true, before: 1 }), { messages: [], head: 9 })
  const all = await bob.calls<{ messages: Json[] }>('sync', { fold: true })
  t.same(
    all.messages.map(({ seq }) => seq),
    [1, 2, 3, 4, 5, 6],
  )
  const since = await bob.calls<{ messages: Json[] }>('sync', { fold: true, cursors: { 'u/alice': 6 } })
  t.same(
    since.messages.map(({ type }) => type),
    ['recall', 'edit', 'reaction'],
    'their messages are not in this reply',
  )
})

t.test('who has left a group does not see what was recalled behind his back', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.sends('g/team', 'hello')
  await bob.calls('group.leave', { group: 'team' })
  await alice.sends('g/team', { type: 'recall', body: { seq: 2 } })
  const page = async (actor: typeof alice): Promise<Json[]> =>
    (await actor.calls<{ messages: Json[] }>('history', { conv: 'g/team', fold: true })).messages
  t.match((await page(bob))[1], { seq: 2, body: 'hello', recalled: undefined })
  t.match((await page(alice))[1], { seq: 2, body: undefined, recalled: { by: 'alice' } })
})
