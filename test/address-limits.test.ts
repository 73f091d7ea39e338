/** What one address may do: connections, requests and failed logins, alone and as a server refuses them. */
import { PassThrough } from 'node:stream'
import t from 'tap'
import { AddressLimits, networkOf } from '../broker/address-limits.js'
import { readConfig } from '../broker/config.js'
import { eventually } from './helper/eventually.js'
import { connect } from './helper/packets.js'
import { connectRaw, RawClient } from './helper/raw-client.js'
import { stage } from './helper/stage.js'

t.test('an IPv6 address counts by its /64, an IPv4 address alone', async (t) => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['2001:db8:1:2:3::192.0.2.7', '2001:db8:1:2::/64'],
    ['', ''],
  ] as const)
    t.equal(networkOf(address), network, address)
})

t.test('connections are counted while they are open, and by their rate', async (t) => {
  let now = 0
  const config = readConfig({ PARLEY_IP_CONNECTIONS_MAX: '2', PARLEY_IP_CONNECT_RATE_LIMIT: '1/s burst 4' })
  const addresses = new AddressLimits(config, () => now)
  const first = new PassThrough()
  t.ok(addresses.admits(first, '2001:db8::1'))
  t.ok(addresses.admits(new PassThrough(), '2001:db8::2'))
  t.notOk(addresses.admits(new PassThrough(), '2001:db8::3'), 'the third of one /64')
  t.ok(addresses.admits(new PassThrough(), '2001:db8:0:1::3'), 'another /64')
  first.destroy()
  await eventually(() => addresses.admits(new PassThrough(), '2001:db8::4'), { what: 'there is room again' })
  for (let at = 0; at < 4; at++) {
    const socket = new PassThrough()
    t.ok(addresses.admits(socket, '192.0.2.1'))
    socket.destroy()
    await new Promise((resolve) => socket.once('close', resolve))
  }
  t.notOk(addresses.admits(new PassThrough(), '192.0.2.1'), 'too fast')
  now += 1_000
  t.ok(addresses.admits(new PassThrough(), '192.0.2.1'))
})

t.test('a server turns away connections that are too many, and takes new ones when others have gone', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 1000, burst: 1000 }, ipConnectionsMax: 3 })
  const alice = await s.actor('alice')
  await s.actor('bob')
  const web = await s.actor('carol', { transport: 'ws' })
  const password = await s.token('dave')
  const another = (transport: 'tcp' | 'ws') =>
    connectRaw({ port: transport === 'tcp' ? s.mqttPort : s.httpPort, transport, clientId: 'x', username: 'dave', password })
  await t.rejects(another('tcp'))
  await t.rejects(another('ws'))
  await alice.sends('u/bob', 'those who are in stay in')
  await web.leaves()
  const dave = await eventually(() => another('tcp').catch(() => undefined), { what: 'dave is let in' })
  dave?.reset()
})

t.test('HTTP requests of one address have a rate, with Retry-After; health is always answered', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 1000, burst: 1000 }, ipRateLimit: { perSecond: 0.01, burst: 2 } })
  t.equal((await s.http('GET', '/')).status, 200)
  t.equal((await s.http('GET', '/')).status, 200)
  const refused = await fetch(`http://127.0.0.1:${s.httpPort}/`)
  t.equal(refused.status, 429)
  t.ok(Number(refused.headers.get('retry-after')) > 1)
  t.match(await refused.json(), { error: { code: 'rate_limited', retry_after_ms: Number } })
  for (const path of ['/healthz', '/readyz']) t.equal((await s.http('GET', path)).status, 200)
})

t.test('calls by HTTP use up the rate of the user, not that of others', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 0.01, burst: 3 } })
  const [alice, bob] = [await s.token('alice'), await s.token('bob')]
  const call = (token: string) => s.http('POST', '/v1/rpc/conversations', { token })
  for (let at = 0; at < 3; at++) t.equal((await call(alice)).status, 200)
  t.match(await call(alice), { status: 429, body: { error: { code: 'rate_limited', retry_after_ms: Number } } })
  t.equal((await call(bob)).status, 200)
})

t.test('an account whose logins fail is not tried any more from there; others are', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 1000, burst: 1000 }, failedLoginRateLimit: { perSecond: 0.01, burst: 3 } })
  const [alice, mallory] = [await s.token('alice'), await s.token('mallory')]
  const login = async (username: string, password: string): Promise<number> => {
    const client = await RawClient.open({ port: s.mqttPort })
    client.send(connect({ clientId: 'x', username, password }))
    const { returnCode } = await client.expect('connack')
    client.reset()
    return returnCode as number
  }
  t.equal(await login('alice', alice), 0)
  for (const password of ['guess', mallory, '']) t.equal(await login('alice', password), 4)
  t.equal(await login('alice', 'guess'), 3, 'not even looked at')
  t.equal(await login('alice', alice), 3, 'nor the right one, until some time has passed')
  t.equal(await login('mallory', mallory), 0, 'others come in')
  t.equal(await login('x'.repeat(200), 'guess'), 4)
})

t.test('failed logins of one address over all accounts, also by HTTP', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 1000, burst: 1000 }, ipFailedLoginRateLimit: { perSecond: 0.01, burst: 2 } })
  const token = await s.token('alice')
  const call = (with_: string) => s.http('POST', '/v1/rpc/conversations', { token: with_ })
  t.equal((await call('guess')).status, 401)
  t.equal((await call(token)).status, 200)
  t.equal((await call('another')).status, 401)
  t.match(await call(token), { status: 429, body: { error: { code: 'rate_limited' } } })
})

t.test('a group has a rate of its own, and an outsider cannot use it up', async (t) => {
  const s = await stage(t, { rateLimit: { perSecond: 1000, burst: 1000 }, groupRateLimit: { perSecond: 0.01, burst: 3 } })
  const [alice, bob, mallory] = await s.cast(['alice', 'bob', 'mallory'])
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.calls('group.create', { group: 'other', members: ['bob'] })
  for (let at = 0; at < 5; at++) await mallory.isRefused('g/team', 'spam', 'forbidden')
  await alice.sends('g/team', 'one')
  await bob.sends('g/team', 'two')
  const sent = await alice.sends('g/team', { id: 'c3', body: 'three' })
  await bob.isRefused('g/team', 'four', 'rate_limited')
  t.equal((await alice.sends('g/team', { id: 'c3', body: 'three' })).seq, sent.seq, 'a resend is answered all the same')
  await bob.sends('g/other', 'elsewhere')
  await bob.sends('u/alice', 'or here')
  await alice.calls('group.remove', { group: 'team', users: ['bob'] })
})
