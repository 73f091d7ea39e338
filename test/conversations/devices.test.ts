/** Many devices of one user: what each gets, and how one is removed. */
import t from 'tap'
import { type Json, stage } from '../helper/stage.js'

t.test('every device gets what others send and what the user sends and reads on another', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('bob', { device: 'web' })
  await alice.sends('u/bob', 'hi')
  await bob.receives({ seq: 1, body: 'hi' })
  await web.receives({ seq: 1, body: 'hi' })
  await bob.sends('u/alice', 'hello')
  await web.receives({ seq: 2, from: 'bob' })
  await web.reads('u/alice', 2)
  await bob.hears({ type: 'read', conv: 'u/alice', seq: 2 })
})

t.test('a removed device is disconnected, and its session is forgotten', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const lost = await s.actor('bob', { device: 'lost', clean: false })
  const before = await bob.calls<{ devices: Json[] }>('devices.list')
  t.match(before.devices, [
    { device: 'lost', online: true, created_ts: Number, seen_ts: Number },
    { device: 'phone', online: true },
  ])
  await alice.calls('devices.remove', { device: 'lost' })
  t.equal(lost.isConnected, true, 'alice has no device of that name')
  t.strictSame(await bob.calls('devices.remove', { device: 'lost' }), {})
  await lost.isClosed()
  t.strictSame(await bob.calls('devices.list'), { devices: [{ device: 'phone', online: true }] })
  await alice.sends('u/bob', 'missed')
  await lost.returns()
  t.equal(lost.sessionPresent, false)
  t.equal(lost.ready.replayed, 0)
  await bob.callsInVain('devices.remove', { device: 'a/b' }, 'invalid')
  const { body } = await s.http('POST', '/v1/rpc/devices.list', { token: await s.token('bob') })
  t.equal((body.devices as Json[]).length, 2)
})
