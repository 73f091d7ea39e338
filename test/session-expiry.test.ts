/** When a stored session was last seen, when it is forgotten for that, and how many a user may have. */
import t from 'tap'
import { createLogger } from '../broker/logger.js'
import type { SessionRecord } from '../broker/store/store.js'
import { expireSessions } from '../plugins/devices/expiry.js'
import { LastSeen } from '../plugins/devices/last-seen.js'
import { connect } from './helper/packets.js'
import { RawClient } from './helper/raw-client.js'
import { type Json, stage } from './helper/stage.js'

const record = (device: string, seenTs: number): SessionRecord => ({ user: 'alice', device, createdTs: 1, seenTs, epoch: 1 })

t.test('what was not seen since then is forgotten, but not who is connected', async (t) => {
  const stored = [record('old', 10), record('online', 10), record('new', 100)]
  const forgotten: string[] = []
  const world = {
    sessions: {
      async *all(seenBeforeTs = 0) {
        yield* stored.filter(({ seenTs }) => seenTs < seenBeforeTs)
      },
    },
    isOnline: (_user: string, device: string) => device === 'online',
    forget: async (user: string, device: string) => void forgotten.push(`${user}/${device}`),
  }
  t.equal(await expireSessions(world, 100), 1)
  t.strictSame(forgotten, ['alice/old'])
})

t.test('a connect and a disconnect are seen, many in one write, and only those of stored sessions', async (t) => {
  const writes: [string[], number][] = []
  let now = 5
  const touch = async (callers: readonly { device: string }[], seenTs: number) =>
    void writes.push([callers.map(({ device }) => device), seenTs])
  const seen = new LastSeen({ sessions: { touch }, logger: createLogger('silent'), now: () => now })
  for (const device of ['phone', 'web', 'phone']) seen.connected({ user: 'alice', device })
  await seen.flush()
  await seen.flush()
  now = 9
  seen.disconnected({ user: 'alice', device: 'web' })
  seen.disconnected({ user: 'alice', device: 'clean' })
  await seen.close()
  t.strictSame(writes, [
    [['phone', 'web'], 5],
    [['web'], 9],
  ])
})

t.test('a device that did nothing but be there was seen when it left, also after a restart', async (t) => {
  const s = await stage(t)
  const phone = await s.actor('bob', { clean: false })
  const before = Date.now()
  await s.clockMoves()
  await phone.leaves()
  await s.restart()
  const web = await s.actor('bob', { device: 'web' })
  const { devices } = await web.calls<{ devices: Json[] }>('devices.list')
  const seenTs = devices.find(({ device }) => device === 'phone')?.seen_ts as number
  t.ok(seenTs > before, `${seenTs} > ${before}`)
})

t.test('a new device takes the place of the one that was away longest; with all connected it is refused', async (t) => {
  const s = await stage(t, { sessionsPerUser: 2 })
  const [first, second] = [
    await s.actor('bob', { device: 'first', clean: false }),
    await s.actor('bob', { device: 'second', clean: false }),
  ]
  const client = await RawClient.open({ port: s.mqttPort })
  client.send(connect({ clientId: 'third', username: 'bob', password: await s.token('bob'), clean: false }))
  t.equal((await client.expect('connack')).returnCode, 5)
  await first.leaves()
  const third = await s.actor('bob', { device: 'third', clean: false })
  const { devices } = await third.calls<{ devices: Json[] }>('devices.list')
  t.strictSame(
    devices.map(({ device }) => device),
    ['second', 'third'],
  )
  await second.drops()
  await second.returns()
  t.equal(second.sessionPresent, true, 'who was there comes back')
  await second.leaves()
  await s.actor('carol', { device: 'first' })
  await first.returns()
  t.equal(first.sessionPresent, false, 'the forgotten one begins anew')
})
