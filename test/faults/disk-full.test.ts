/**
 * The disk fills up under a running server: nothing is acknowledged that is not stored, the operator can see why, the clients are
 * sent away to try again, and when there is room everything goes on by itself, with each message stored once.
 * Needs a file system of its own: root and mount, as in CI, where PARLEY_TEST_REQUIRE=tmpfs forbids to skip it.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../helper/eventually.js'
import { RecordingClient } from '../helper/recording-client.js'
import { ServerProcess } from '../helper/server-process.js'

const isRequired = (process.env.PARLEY_TEST_REQUIRE ?? '').split(',').includes('tmpfs')

/** A disk of its own for the test; undefined after saying why there is none. */
function mountDisk(t: Test): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'parley-disk-'))
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'tmpfs', dir])
  if (status === 0) {
    t.teardown(() => {
      spawnSync('umount', ['-l', dir])
      rmdirSync(dir)
    })
    return dir
  }
  rmdirSync(dir)
  const why = 'a tmpfs cannot be mounted here, so the disk cannot be filled'
  if (isRequired) t.fail(why)
  else t.comment(`SKIPPED: ${why}`)
  return undefined
}

/** Writes until there is no room, in ever smaller pieces. */
function fill(file: string): void {
  const fd = openSync(file, 'w')
  for (let piece = 1_048_576; piece >= 1; piece = Math.floor(piece / 2)) {
    try {
      for (;;) writeSync(fd, Buffer.alloc(piece))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
  closeSync(fd)
}

t.test('disk full', { timeout: 60_000 }, async (t) => {
  const dir = mountDisk(t)
  if (dir === undefined) return
  const server = await new ServerProcess(t, join(dir, 'data'), { PARLEY_STORE_RETRY_MS: '1000' }).start()
  const client = new RecordingClient({ user: 'ann', device: 'phone', clean: true, transport: 'tcp', server })
  t.teardown(() => client.stop())
  client.start()
  await eventually(() => client.isReady)
  await server.rpc('ann', 'group.create', { group: 'team' })
  const first = client.send('g/team', 'before', 'm0')
  await eventually(() => first.acks.length === 1)

  const filler = join(dir, 'filler')
  fill(filler)
  await eventually(async () => (await server.readyStatus()) === 503, { what: '/readyz says so before a message is lost' })
  const sends = Array.from({ length: 60 }, (_, i) => client.send('g/team', `${i} ${'x'.repeat(40_000)}`, `m${i + 1}`))
  await eventually(() => server.log.some(({ level, msg }) => level === 'error' && msg.startsWith('the store does not take messages')), {
    timeoutMs: 10_000,
    what: 'the log says so',
  })
  await eventually(() => client.connections.length >= 2 && client.connections[0]?.closedAt, {
    timeoutMs: 15_000,
    what: 'the client is sent away and comes back',
  })
  const { text } = await server.get('/readyz')
  t.match(text, /not ready/)
  t.equal((await server.get('/healthz')).status, 200, 'it is alive')
  const settledSends = sends.filter(({ isPubacked }) => isPubacked)
  const stored = new Set((await server.history('ann', 'g/team')).map(({ id }) => id))
  t.ok(settledSends.length < sends.length, `${sends.length - settledSends.length} messages wait`)
  t.ok(
    settledSends.every(({ id }) => stored.has(id ?? '')),
    'nothing is acknowledged that is not stored',
  )

  rmSync(filler)
  await eventually(async () => (await server.readyStatus()) === 200, { timeoutMs: 15_000, what: 'it recovers by itself' })
  await eventually(() => client.unsettled === 0, { timeoutMs: 20_000, what: 'all are acknowledged' })
  const ids = (await server.history('ann', 'g/team')).map(({ id }) => id)
  t.same(
    ids.filter((id) => id.startsWith('m')),
    Array.from({ length: 61 }, (_, i) => `m${i}`),
    'each once, in order',
  )
})

t.test('with a disk that stays full, the server still stops in order', { timeout: 60_000 }, async (t) => {
  const dir = mountDisk(t)
  if (dir === undefined) return
  const server = await new ServerProcess(t, join(dir, 'data'), { PARLEY_DRAIN_MS: '1000' }).start()
  const client = new RecordingClient({ user: 'ann', device: 'phone', clean: false, transport: 'tcp', server })
  t.teardown(() => client.stop())
  client.start()
  await eventually(() => client.isReady)
  await server.rpc('ann', 'group.create', { group: 'team' })
  fill(join(dir, 'filler'))
  for (let i = 0; i < 20; i++) client.send('g/team', `${i} ${'x'.repeat(40_000)}`, `m${i}`)
  await eventually(() => server.log.some(({ msg }) => msg.startsWith('the store does not take messages')))
  t.same(await server.stop(), { code: 0, signal: null })
})
