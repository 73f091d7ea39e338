/** The list of conversations: its order and pages, what its last message is, and what a user pins and mutes. */
import t from 'tap'
import { type Actor, type Json, stage } from '../helper/stage.js'

interface Page {
  conversations: Json[]
  next?: string
}

async function listed(actor: Actor, params: Json = {}): Promise<Json[]> {
  return (await actor.calls<Page & Json>('conversations', params)).conversations
}

async function rowOf(actor: Actor, conv: string, params: Json = {}): Promise<Json | undefined> {
  return (await listed(actor, params)).find((row) => row.conv === conv)
}

t.test('the last message is shown as recalled, edited, or with reactions; raw when asked', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'first')
  await alice.sends('u/bob', 'second')
  await alice.sends('u/bob', { type: 'edit', body: { seq: 2, body: 'second, better' } })
  await bob.sends('u/alice', { type: 'reaction', body: { seq: 2, emoji: '👍', on: true } })
  for (const [actor, conv] of [
    [alice, 'u/bob'],
    [bob, 'u/alice'],
  ] as const) {
    const last = { seq: 2, body: 'second, better', edited: { seq: 3 }, reactions: { '👍': ['bob'] } }
    t.match(await rowOf(actor, conv), { head: 4, last })
    t.match(await rowOf(actor, conv, { fold: false }), { head: 4, last: { seq: 4, type: 'reaction' } })
  }
  await alice.sends('u/bob', { type: 'recall', body: { seq: 2 } })
  const recalled = (await rowOf(bob, 'u/alice'))?.last as Json
  t.match(recalled, { seq: 2, type: 'text', recalled: { by: 'alice', seq: 5 } })
  t.notOk('body' in recalled)
  await alice.sends('u/bob', { type: 'recall', body: { seq: 1 } })
  t.match(await rowOf(bob, 'u/alice'), { last: { seq: 2 } }, 'a recall of an older message is not a new one')
  await bob.sends('u/alice', 'third')
  t.match(await rowOf(alice, 'u/bob'), { last: { seq: 7, body: 'third' } })
})

t.test('where there is nothing but reactions in sight, the last of them is shown', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', 'hi')
  for (let at = 0; at < 100; at++) await bob.sends('u/alice', { type: 'reaction', body: { seq: 1, emoji: '👍', on: at % 2 === 0 } })
  t.match(await rowOf(alice, 'u/bob'), { head: 101, last: { seq: 101, type: 'reaction' } })
})

t.test('pinned conversations come first, on every page, and other devices hear of it', async (t) => {
  const s = await stage(t)
  const [alice, web] = [await s.actor('alice'), await s.actor('alice', { device: 'web' })]
  await s.cast(['bob', 'carol', 'dave', 'erin'])
  for (const peer of ['bob', 'carol', 'dave', 'erin']) {
    await alice.sends(`u/${peer}`, 'hi')
    await web.receives({ conv: `u/${peer}` })
    await s.clockMoves()
  }
  t.strictSame(await alice.calls('conversation.update', { conv: 'u/bob', pinned: true }), { conv: 'u/bob', pinned: true, muted_until: 0 })
  await web.hears({ type: 'conversation', conv: 'u/bob', pinned: true, muted_until: 0 })
  await alice.calls('conversation.update', { conv: 'u/carol', pinned: true })
  await web.hears({ type: 'conversation', conv: 'u/carol', pinned: true, muted_until: 0 })
  await alice.calls('conversation.update', { conv: 'u/carol', pinned: true })
  await web.receivesNothing()
  const order = ['u/carol', 'u/bob', 'u/erin', 'u/dave']
  for (const limit of [1, 2, 3, 4]) {
    const found: unknown[] = []
    let cursor: string | undefined
    do {
      const page: Page = await alice.calls('conversations', { limit, ...(cursor === undefined ? {} : { cursor }) })
      found.push(...page.conversations.map(({ conv }) => conv))
      cursor = page.next
    } while (cursor !== undefined)
    t.strictSame(found, order, `pages of ${limit}`)
  }
  t.strictSame(
    (await listed(alice)).map(({ pinned }) => pinned),
    [true, true, undefined, undefined],
  )
  await s.restart()
  await alice.returns()
  t.equal((await listed(alice))[0]?.pinned, true, 'also after a restart')
  await alice.calls('conversation.update', { conv: 'u/carol', pinned: false })
  t.equal((await listed(alice))[0]?.conv, 'u/bob')
})

t.test('a conversation that moves up between two pages comes once at most', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await s.cast(['carol', 'dave'])
  for (const peer of ['bob', 'carol', 'dave']) {
    await alice.sends(`u/${peer}`, 'hi')
    await s.clockMoves()
  }
  const first: Page = await alice.calls('conversations', { limit: 1 })
  await bob.sends('u/alice', 'up')
  const second: Page = await alice.calls('conversations', { limit: 5, cursor: first.next })
  t.strictSame(
    [...first.conversations, ...second.conversations].map(({ conv }) => conv),
    ['u/dave', 'u/carol'],
  )
})

t.test('a muted conversation says so until the time is over; messages come all the same', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await bob.sends('u/alice', 'hi')
  const until = Date.now() + 3_600_000
  t.match(await alice.calls('conversation.update', { conv: 'u/bob', muted_until: until }), { pinned: false, muted_until: until })
  t.match(await rowOf(alice, 'u/bob'), { muted_until: until, unread: 1 })
  t.notOk('muted_until' in ((await rowOf(bob, 'u/alice')) as Json), 'nobody else sees it')
  await alice.receives({ seq: 1 })
  await bob.sends('u/alice', 'are you there')
  await alice.receives({ seq: 2 })
  await alice.calls('conversation.update', { conv: 'u/bob', pinned: true })
  t.match(await rowOf(alice, 'u/bob'), { pinned: true, muted_until: until }, 'what is left out stays')
  t.match(await alice.calls('conversation.update', { conv: 'u/bob', muted_until: 1 }), { pinned: true, muted_until: 0 }, 'that is over')
  t.notOk('muted_until' in ((await rowOf(alice, 'u/bob')) as Json))
})

t.test('only own conversations can be pinned, and no more than 100', async (t) => {
  const s = await stage(t)
  const [alice] = await s.cast(['alice', 'bob'])
  await alice.callsInVain('conversation.update', { conv: 'u/bob', pinned: true }, 'not_found')
  await alice.callsInVain('conversation.update', { conv: 'g/team', pinned: true }, 'not_found')
  await alice.callsInVain('conversation.update', { conv: 'u/bob', pinned: 1 }, 'invalid')
  const peers = Array.from({ length: 101 }, (_, at) => `peer-${at}`)
  await s.server.ensureUsers(peers)
  for (const peer of peers) await alice.sends(`u/${peer}`, 'hi')
  for (const peer of peers.slice(1)) await alice.calls('conversation.update', { conv: `u/${peer}`, pinned: true })
  await alice.callsInVain('conversation.update', { conv: 'u/peer-0', pinned: true }, 'forbidden')
  await alice.calls('conversation.update', { conv: 'u/peer-1', pinned: false })
  await alice.calls('conversation.update', { conv: 'u/peer-0', pinned: true })
})

t.test('a page is bounded in bytes, and the next one goes on where it ended', async (t) => {
  const s = await stage(t)
  const peers = Array.from({ length: 8 }, (_, at) => `peer-${at}`)
  await s.server.ensureUsers(peers)
  const alice = await s.actor('alice')
  for (const peer of peers) await alice.sends(`u/${peer}`, 'x'.repeat(60_000))
  const found: unknown[] = []
  let cursor: string | undefined
  let pages = 0
  do {
    const page: Page = await alice.calls('conversations', cursor === undefined ? {} : { cursor })
    t.ok(JSON.stringify(page).length < 200_000)
    found.push(...page.conversations.map(({ conv }) => conv))
    cursor = page.next
    pages++
  } while (cursor !== undefined)
  t.equal(new Set(found).size, 8)
  t.equal(found.length, 8)
  t.ok(pages > 1)
})

t.test('who was muted in a group, left it and came back is still muted', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.calls('group.mute', { group: 'team', user: 'bob' })
  await bob.isRefused('g/team', 'hello', 'muted')
  await bob.calls('group.leave', { group: 'team' })
  await alice.calls('group.add', { group: 'team', users: ['bob'] })
  await bob.isRefused('g/team', 'hello again', 'muted')
  await alice.calls('group.mute', { group: 'team', user: 'bob', until: 0 })
  await bob.sends('g/team', 'thanks')
})
