/** Pictures of users and groups that were uploaded here: who sees them, who may set them, and when their bytes go. */
import t from 'tap'
import { fileOf, looks, uploads } from '../helper/media.js'
import { onBoth, onTwoNodes, sweeps } from '../helper/media-places.js'
import { stage } from '../helper/stage.js'

onBoth('alice shows her face to everybody, until she changes it', async (t, { s, kept }) => {
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const [first, second, unused] = [
    await uploads(s, 'alice', 'image/png'),
    await uploads(s, 'alice', 'image/jpeg'),
    await uploads(s, 'alice', 'image/png'),
  ]
  t.equal((await looks(s, 'bob', first.url)).status, 403, 'not yet')
  t.match(await alice.calls('profile.update', { avatar_url: first.url }), { avatar_url: first.url })
  t.match(await bob.calls('profile.get', { user: 'alice' }), { avatar_url: first.url })
  t.equal((await looks(s, 'bob', first.url)).status, 200)
  const { url: link } = await bob.calls<{ url: string }>('media.link', { url: first.url })
  t.equal((await looks(s, undefined, link)).status, 200, 'for an <img>')
  t.equal((await looks(s, undefined, first.url)).status, 401, 'for users, not for the world')
  await sweeps(s, 1, 'what is not shown goes', () => kept() === 1)
  const again = await s.actor('alice')
  t.equal((await looks(s, 'bob', first.url)).status, 200, 'her picture stays')
  await again.callsInVain('profile.update', { avatar_url: unused.url }, 'not_found')
  await again.callsInVain('profile.update', { avatar_url: second.url }, 'not_found')
  const third = await uploads(s, 'alice', 'image/jpeg')
  await again.calls('profile.update', { avatar_url: third.url })
  t.same([(await looks(s, 'bob', first.url)).status, (await looks(s, 'bob', third.url)).status], [403, 200])
  await sweeps(s, 3, 'the old one goes', () => kept() === 1)
  await (await s.actor('alice')).calls('profile.update', { avatar_url: '' })
  t.equal((await looks(s, 'bob', third.url)).status, 403)
  await sweeps(s, 6, 'the last one goes', () => kept() === 0)
})

t.test('only an own image can be a picture, and only a URL of the web', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const secret = await uploads(s, 'bob', 'image/png')
  await bob.sends('u/alice', { type: 'image', body: { ...secret, width: 1, height: 1 } })
  await alice.callsInVain('profile.update', { avatar_url: secret.url }, 'forbidden')
  const sound = await uploads(s, 'alice', 'audio/ogg', fileOf('audio/ogg'))
  await alice.callsInVain('profile.update', { avatar_url: sound.url }, 'invalid')
  await alice.callsInVain('profile.update', { avatar_url: '/v1/media/AAAAAAAAAAAAAAAAAAAAAA' }, 'not_found')
  for (const avatar_url of ['javascript:alert(1)', 'data:image/png;base64,AAAA', 'a.png', '//example.org/a.png', 'https://a b'])
    await alice.callsInVain('profile.update', { avatar_url }, 'invalid')
  t.same(await alice.calls('profile.get'), { user: 'alice', status: 'available' })
  await alice.calls('profile.update', { avatar_url: 'https://example.org/a.png' })
})

onTwoNodes('the picture of a group is for its members', async (t, { a, b }) => {
  const [alice, bob, carol] = [await a.actor('alice'), await b.actor('bob'), await b.actor('carol')]
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  const { url } = await uploads(a, 'alice', 'image/png')
  const own = await uploads(b, 'bob', 'image/png')
  await bob.callsInVain('group.update', { group: 'team', avatar_url: own.url }, 'forbidden')
  await alice.calls('group.update', { group: 'team', avatar_url: url })
  t.match(await bob.calls('group.get', { group: 'team' }), { avatar_url: url })
  t.same([(await looks(b, 'bob', url)).status, (await looks(b, 'carol', url)).status], [200, 403])
  t.equal((await looks(b, 'carol', own.url)).status, 403, 'what was refused is shown to nobody')
  await alice.calls('group.add', { group: 'team', users: ['carol'] })
  await carol.receives({ group: 'team', type: 'system' })
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
  await carol.receives({ group: 'team', type: 'system' })
  t.same([(await looks(b, 'bob', url)).status, (await looks(b, 'carol', url)).status], [403, 200])
  const { conversations } = await carol.calls<{ conversations: object[] }>('conversations')
  t.match(conversations, [{ conv: 'g/team', avatar_url: url }])
})
