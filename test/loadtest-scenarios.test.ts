/** The load tool as a program on a real Parley: each scenario with few clients, over TCP and WebSocket, with its figures and a clean audit. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { figuresOf } from './helper/load-run.js'

t.test('direct at a rate, over WebSocket, with an HTML report', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'parley-test-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const html = join(folder, 'report.html')
  const run = await figuresOf(
    `direct --clients 10 --transport ws --rate 100 --ramp 0.3 --seconds 1.2 --warmup 0 --processes 2 --html ${html}`,
  )
  t.equal(run.delivered, run.sent)
  t.ok(run.sent > 50)
  t.equal(run.scheduledPerSecond, 100)
  t.ok((run.percentiles ?? []).length > 3)
  t.ok((run.timeline ?? []).length > 0)
  t.match(await readFile(html, 'utf8'), /<svg/)
})

t.test('connections: idle, then a trickle', async (t) => {
  const run = await figuresOf('connections --clients 20 --rate 50 --seconds 0.5 --warmup 0')
  t.ok((run.connectsPerSecond ?? 0) > 0)
  t.ok(run.sent > 0)
  t.equal(run.delivered, run.sent)
  if (process.platform === 'linux')
    t.ok(run.brokerKbPerConnection !== undefined && run.brokerCpuMicrosPerConnect !== undefined && run.brokerCoresIdle !== undefined)
})

t.test('reconnect-storm, with a restart in between', async (t) => {
  const run = await figuresOf('reconnect-storm --clients 20 --warmup 0 --restart --processes 2')
  t.ok((run.readyP99Ms ?? 0) > 0 && (run.connackP99Ms ?? 0) > 0)
  t.ok((run.restartSeconds ?? 0) > 0)
  t.equal(run.delivered, 40, 'each session works again')
})

t.test('backlog, longer than a conversation replays by default', async (t) => {
  const run = await figuresOf('backlog --clients 3 --messages 1500 --senders 2')
  t.equal(run.backlogMessages, 4_500)
  t.equal(run.delivered, 4_500)
  t.ok((run.replayPerSecond ?? 0) > 0 && (run.readyP99Ms ?? 0) > 0)
})

t.test('a backlog that the server cuts is named and fails the run', async (t) => {
  const line = 'backlog --clients 2 --messages 50 --senders 1 --drain 1 --broker-env PARLEY_CONVERSATION_BACKLOG_MAX=20'
  const { message } = await figuresOf(line).then(
    () => ({ message: 'it passed' }),
    (error: Error) => error,
  )
  t.match(message, /ended with 1/)
  t.match(message, /lost 30 of 50 messages/)
  t.match(message, /the broker cut the backlog: "truncated"/)
  t.match(message, /parley FAILED/)
})

t.test('mixed: everything happens, nothing is lost', async (t) => {
  const run = await figuresOf(
    'mixed --clients 20 --groups 3 --group-size 6 --friends 3 --rate 100 --calls 30 --acts 20 --leaves 4 --away 0.3 --seconds 1 --warmup 0.2 --processes 2',
  )
  t.ok(run.sent > 50 && run.delivered > run.sent)
  t.ok((run.acts ?? 0) > 0 && (run.receiptsHeard ?? 0) > 0 && (run.typingHeard ?? 0) > 0)
  t.ok((run.calls ?? 0) > 0 && (run.readPositions ?? 0) > 0 && (run.leaves ?? 0) > 0)
})

const isInstalled = existsSync(fileURLToPath(new URL('../../node_modules/aedes-persistence-redis', import.meta.url)))

t.test('a yardstick that is not installed is told before anything is measured', { skip: isInstalled && 'it is installed' }, async (t) => {
  await t.rejects(figuresOf('direct --clients 2 --seconds 0.1 --warmup 0 --against aedes-redis'), { message: /npm install|redis-server/ })
})
