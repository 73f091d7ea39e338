/**
 * kill -9 at any moment while messages pour in, again and again: nothing acknowledged is lost, nothing is stored twice when the
 * senders send again what was not acknowledged, and the log has no gap.
 */
import t from 'tap'
import { createRandom, newSeed } from '../contract/entries.js'
import { check } from '../helper/checker.js'
import { eventually } from '../helper/eventually.js'
import { readLog } from '../helper/final-log.js'
import { newRunName, RecordingClient } from '../helper/recording-client.js'
import { startServer } from '../helper/server-process.js'

const kills = 6
t.setTimeout(90_000)

t.test('kill -9 while senders pour', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const run = newRunName()
  const server = await startServer(t, { PARLEY_CONVERSATION_BACKLOG_MAX: '1000000', PARLEY_SESSION_BACKLOG_MAX: '1000000' })
  const client = (user: string, device: string) => new RecordingClient({ user, device, clean: false, transport: 'tcp', server })
  const bob = client('bob', 'phone')
  const senders = [client('ann', 'phone'), client('ann', 'tab'), client('cat', 'phone')]
  const all = [bob, ...senders]
  t.teardown(() => all.forEach((each) => each.stop()))
  for (const each of all) each.start()
  await eventually(() => all.every(({ isReady }) => isReady), { timeoutMs: 20_000 })

  let sent = 0
  const pour = setInterval(() => {
    for (const sender of senders) {
      while (sender.unsettled < 150) {
        const name = `${run}-${++sent}`
        sender.send('u/bob', name, random(4) === 0 ? undefined : name)
      }
    }
  }, 2)
  t.teardown(() => clearInterval(pour))
  const acked = () => senders.reduce((sum, { sends }) => sum + sends.filter(({ isPubacked }) => isPubacked).length, 0)
  for (let kill = 0; kill < kills; kill++) {
    const target = acked() + 20 + random(600)
    await eventually(() => acked() >= target, { timeoutMs: 30_000, everyMs: 1, what: `${target} messages are acked` })
    await server.kill()
    await server.start()
  }
  clearInterval(pour)
  await eventually(() => all.every(({ isReady, unsettled }) => isReady && unsettled === 0), { timeoutMs: 30_000 })
  const total = senders.reduce((sum, { sends }) => sum + sends.length, 0)
  const got = () => new Set(bob.connections.flatMap(({ received }) => received.map(({ conv, seq }) => `${conv} ${seq}`))).size
  await eventually(() => got() === total, { timeoutMs: 30_000, everyMs: 100, what: `bob has all ${total}` })

  const connections = all.flatMap((each) => each.connections.map((connection) => ({ ...connection })))
  for (const each of all) each.stop()
  await server.stop()
  const log = await readLog(server.dir, ['u/ann/bob', 'u/bob/cat'])
  t.same(check({ sends: all.flatMap(({ sends }) => sends), connections, reads: [], log }), [])
  t.comment(`${total} messages, ${kills} kills`)
  t.equal([...log.values()].flat().length, total)
})
