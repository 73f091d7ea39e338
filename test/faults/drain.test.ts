/** SIGTERM under load: what was acknowledged is there after the restart, what was not comes again once; a signal that npm repeats does no harm. */
import t from 'tap'
import { check } from '../helper/checker.js'
import { eventually } from '../helper/eventually.js'
import { readLog } from '../helper/final-log.js'
import { newRunName, RecordingClient } from '../helper/recording-client.js'
import { startServer } from '../helper/server-process.js'

t.setTimeout(60_000)

t.test('SIGTERM while messages pour', async (t) => {
  const run = newRunName()
  const server = await startServer(t)
  const clients = ['ann', 'bob', 'cat', 'dan'].map(
    (user, index) => new RecordingClient({ user, device: 'phone', clean: false, transport: index % 2 === 0 ? 'tcp' : 'ws', server }),
  )
  t.teardown(() => clients.forEach((client) => client.stop()))
  for (const client of clients) client.start()
  await eventually(() => clients.every(({ isReady }) => isReady))
  let sent = 0
  const pour = setInterval(() => {
    for (const client of clients) while (client.unsettled < 100) client.send('u/bob', `${run}-${++sent}`, `${run}-${sent}`)
  }, 2)
  t.teardown(() => clearInterval(pour))
  for (let round = 0; round < 3; round++) {
    const target = sent + 1_000
    await eventually(() => sent > target, { timeoutMs: 20_000 })
    const startedMs = performance.now()
    t.same(await server.stop(), { code: 0, signal: null })
    t.comment(`drained in ${Math.round(performance.now() - startedMs)} ms`)
    t.ok(performance.now() - startedMs < 10_000, 'within the time for it')
    await server.start()
  }
  clearInterval(pour)
  await eventually(() => clients.every(({ isReady, unsettled }) => isReady && unsettled === 0), { timeoutMs: 20_000 })
  for (const client of clients) client.stop()
  await server.stop()
  const log = await readLog(server.dir, ['u/ann/bob', 'u/bob/bob', 'u/bob/cat', 'u/bob/dan'])
  const sends = clients.flatMap((client) => client.sends)
  // Who was sent away at the end is owed nothing here; promises.test.ts judges delivery.
  const connections = clients.flatMap((client) => client.connections.map((each) => ({ ...each, closedAt: each.closedAt ?? 0 })))
  t.same(check({ sends, connections, reads: [], log }), [])
  t.equal([...log.values()].flat().length, sends.length)
})

t.test('signals that come together are one: it drains', async (t) => {
  const server = await startServer(t)
  server.signal('SIGTERM')
  server.signal('SIGINT')
  t.same(await server.exited, { code: 0, signal: null })
})
