/** Erasure, export and retention: what the others see of it, what is left, and that what is gone is in no file. */
import t from 'tap'
import { compactLmdbStore } from '../../broker/store/lmdb/lmdb-store.js'
import { eventually } from '../helper/eventually.js'
import { filesWith } from '../helper/grep.js'
import { ServerProcess, tokenOf } from '../helper/server-process.js'
import { type Json, type Stage, stage } from '../helper/stage.js'

const secret = 'what-alice-said-to-nobody-else'
const dirOf = (s: Stage): string => s.options.dataDir as string

t.test('a user is erased: everybody keeps the order, nobody the content', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol] = await s.cast(['alice', 'bob', 'carol'])
  const away = await s.actor('carol', { device: 'away', clean: false })
  await alice.calls('group.create', { group: 'team', members: ['bob', 'carol'] })
  await alice.sends('u/bob', { id: 'a1', body: `${secret} one`, meta: { note: secret } })
  await bob.sends('u/alice', 'and I to her')
  await alice.sends('u/bob', { type: 'edit', body: { seq: 1, body: `${secret} edited` } })
  await alice.sends('g/team', `${secret} to the team`)
  await bob.sends('g/team', { id: 'b1', body: 'mine' })
  await alice.sends('g/team', { type: 'recall', body: { seq: 3 } })
  await s.caughtUp()
  await away.leaves()
  await alice.calls('profile.update', { name: secret })
  await alice.calls('friends.add', { user: 'bob' })
  await alice.calls('blocks.add', { user: 'carol' })
  await bob.reads('u/alice', 3)
  for (const actor of [bob, carol, away]) actor.inbox.length = 0

  t.match(await s.admin('DELETE', '/users/alice'), { user: 'alice', done: false })
  await bob.isRefused('u/alice', 'at once?', 'not_found')
  await alice.isClosed()
  await t.rejects(alice.connects(), 'her token is refused from the answer on')
  await s.erases('alice')
  t.match(await s.admin('DELETE', '/users/alice'), { done: true })
  await bob.receives({ conv: 'g/team', seq: 5, type: 'system', body: { event: 'left', users: ['alice'], owner: 'bob' } })
  await bob.receives({ conv: 'g/team', seq: 6, type: 'system', body: { event: 'erased', users: ['alice'] } })
  await bob.receives({ conv: 'u/alice', seq: 4, type: 'system', body: { event: 'erased', users: ['alice'] } })
  await carol.receives({ conv: 'g/team', seq: 5 })
  await carol.receives({ conv: 'g/team', seq: 6 })

  const { messages } = await bob.calls<{ messages: Json[] }>('history', { conv: 'u/alice' })
  t.match(messages[0], { seq: 1, from: 'alice', to: 'bob', id: 'a1', was: 'text', type: 'erased' })
  t.strictSame(Object.keys(messages[0] as Json).sort(), ['from', 'id', 'seq', 'to', 'ts', 'type', 'was'])
  t.match(messages[1], { seq: 2, body: 'and I to her' })
  t.match(messages[2], { seq: 3, was: 'edit', type: 'erased' })
  t.equal(messages.length, 4)
  const folded = await bob.calls<{ messages: Json[] }>('history', { conv: 'u/alice', fold: true })
  t.same(
    folded.messages.map(({ seq }) => seq),
    [1, 2, 4],
    'an edit that is gone is no message',
  )
  const team = await bob.calls<{ messages: Json[] }>('history', { conv: 'g/team', fold: true })
  t.ok(
    team.messages.some(({ seq, recalled }) => seq === 3 && recalled !== undefined),
    'what she recalled as owner stays recalled',
  )
  t.notOk(JSON.stringify([messages, team, await bob.calls('sync')]).includes(secret))

  await bob.isRefused('u/alice', 'are you there?', 'not_found')
  await bob.callsInVain('profile.get', { user: 'alice' }, 'not_found')
  await bob.callsInVain('friends.add', { user: 'alice' }, 'not_found')
  await bob.callsInVain('group.add', { group: 'team', users: ['alice'] }, 'not_found')
  t.same((await bob.calls('friends.list')).friends, [])
  for (const [method, path] of [
    ['POST', '/users'],
    ['POST', '/tokens'],
  ] as const)
    t.equal((await s.http(method, `/v1/admin${path}`, { token: await s.adminToken(), body: { user: 'alice' } })).status, 409, path)
  t.equal((await s.http('GET', '/v1/admin/users/alice/export', { token: await s.adminToken() })).status, 404)
  t.equal((await s.http('DELETE', '/v1/admin/users/nobody', { token: await s.adminToken() })).status, 404)
  t.match(await bob.sends('g/team', 'we go on'), { seq: 7 })
  t.match(await bob.sends('g/team', { id: 'b1', body: 'mine' }), { seq: 3, dup: true })

  await away.returns()
  await away.receivesRun('g/team', 5, 3)
  await s.ends()
  await compactLmdbStore(dirOf(s))
  t.same(filesWith(dirOf(s), secret), [], 'in no file')
})

t.test('what is exported: one line a thing, all that he sent and nothing of others', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const phone = await s.actor('alice', { device: 'tablet', clean: false })
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.sends('u/bob', { id: 'a1', body: 'mine' })
  await bob.sends('u/alice', 'not hers')
  await bob.sends('g/team', 'not hers, too')
  await alice.sends('g/team', 'hers')
  await alice.reads('u/bob', 2)
  await alice.calls('profile.update', { name: 'Alice' })
  await alice.calls('friends.add', { user: 'bob' })
  await s.caughtUp()
  await phone.leaves()
  const lines = await s.exported('alice')
  const of = (kind: string) => lines.filter((line) => line.kind === kind)
  t.match(of('user'), [{ user: 'alice' }])
  t.match(of('profile'), [{ name: 'Alice' }])
  t.match(of('friend'), [{ user: 'bob', state: 'requested' }])
  t.match(of('device'), [{ device: 'tablet' }])
  t.match(
    of('conversation').sort((a, b) => (String(a.conv) < String(b.conv) ? -1 : 1)),
    [
      { conv: 'g/team', spans: [{ from: 1 }] },
      { conv: 'u/bob', read: 2 },
    ],
  )
  const messages = of('message').map(({ message }) => message as Json)
  t.same(
    messages
      .filter(({ type }) => type === 'text')
      .map(({ body }) => body)
      .sort(),
    ['hers', 'mine'],
  )
  t.notOk(JSON.stringify(lines).includes('not hers'))
})

t.test('retention: what is too old loses its content, and only that; a late resend is still a duplicate', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await alice.sends('u/bob', { id: 'old', body: secret })
  await alice.sends('u/bob', { type: 'reaction', body: { seq: 1, emoji: '👍', on: true } })
  await alice.leaves()
  const real = Date.now
  t.teardown(() => {
    Date.now = real
  })
  Date.now = () => real() + 31 * 86_400_000
  await s.server.close()
  await s.moves({ retentionDays: 30 })
  const later = { token: await s.token('alice', { expiresInSeconds: 3_600 }) }
  const again = await s.actor('alice', later)
  const reader = await s.actor('bob', { token: await s.token('bob', { expiresInSeconds: 3_600 }) })
  await again.sends('u/bob', { id: 'new', body: 'fresh' })
  await eventually(async () => (await reader.calls<{ messages: Json[] }>('history', { conv: 'u/alice' })).messages[1]?.type === 'erased')
  const { messages } = await reader.calls<{ messages: Json[] }>('history', { conv: 'u/alice' })
  t.match(messages, [
    { seq: 1, was: 'text', type: 'erased' },
    { seq: 2, was: 'reaction', type: 'erased' },
    { seq: 3, type: 'text', body: 'fresh' },
  ])
  t.match(await again.sends('u/bob', { id: 'old', body: secret }), { seq: 1, dup: true })
  await again.isRefused('u/bob', { type: 'edit', body: { seq: 1, body: 'x' } }, 'not_found')
  await bob.isClosed()
  await s.ends()
  await compactLmdbStore(dirOf(s))
  t.same(filesWith(dirOf(s), secret), [])
})

t.test('kill -9 while a user is erased: the next start goes on, and all is gone', { timeout: 120_000 }, async (t) => {
  const dir = `${t.testdir()}/data`
  const server = await new ServerProcess(t, dir).start()
  const world = { token: tokenOf, mqttPort: server.mqttPort, httpPort: server.httpPort, caughtUp: async () => undefined }
  const { Actor } = await import('../helper/actor.js')
  const alice = await new Actor('alice', {}, world).connects()
  const peers = Array.from({ length: 12 }, (_, i) => `peer${i}`)
  for (const peer of peers) await (await new Actor(peer, {}, world).connects()).leaves()
  for (const peer of peers) for (let at = 0; at < 20; at++) await alice.sends(`u/${peer}`, `${secret} ${at}`)
  const admin = await mintAdmin()
  const erase = async (): Promise<boolean> => {
    const url = `http://127.0.0.1:${server.httpPort}/v1/admin/users/alice`
    const response = await fetch(url, { method: 'DELETE', headers: { authorization: `Bearer ${admin}` } })
    return ((await response.json()) as { done: boolean }).done
  }
  t.equal(await erase(), false)
  let kills = 0
  for (; kills < 5; kills++) {
    await eventually(async () => kills === 0 || (await gone(server, peers[kills * 2] as string)), { timeoutMs: 20_000 })
    await server.kill()
    await server.start()
  }
  await eventually(erase, { timeoutMs: 30_000, what: 'the erasure is done' })
  for (const peer of peers) {
    const found = await server.history(peer, 'u/alice')
    t.same(
      found.map(({ seq }) => seq),
      Array.from({ length: 21 }, (_, i) => i + 1),
      'no gap, and one notice',
    )
  }
  await server.stop()
  await compactLmdbStore(dir)
  t.same(filesWith(dir, secret), [])
})

async function gone(server: ServerProcess, peer: string): Promise<boolean> {
  const [first] = (await server.history(peer, 'u/alice')) as unknown as Json[]
  return first?.type === 'erased'
}

async function mintAdmin(): Promise<string> {
  const { mintToken } = await import('../../broker/token.js')
  return mintToken({ secret: 'a secret of the fault tests, long enough for HS256', user: '', scope: 'admin', expiresInSeconds: 3_600 })
}
