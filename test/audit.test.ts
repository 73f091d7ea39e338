/**
 * The fault audit judged itself: it passes on Parley, and it finds what is broken, each by its own name, in stock Aedes and in
 * builds of Parley with one promise taken away.
 */

import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Api } from '../audit/api.js'
import type { Deployment, DeploymentEvents } from '../audit/deployment.js'
import { createEmbedded } from '../audit/embedded.js'
import { type FaultKind, faultKinds, kinds } from '../audit/faults.js'
import { type History, readHistory } from '../audit/history.js'
import type { RunOptions } from '../audit/run.js'
import { ServerProcess } from '../audit/server-process.js'
import { newSeed } from './contract/entries.js'
import { audit, type Find, findsAll, folder } from './helper/audited.js'
import { eventually } from './helper/eventually.js'
import { buildMutant, mutations } from './helper/mutations.js'

const seed = newSeed()
t.comment(`PARLEY_TEST_SEED=${seed}`)
t.setTimeout(480_000)
// Servers start many times here; what tap loads into each process makes that slow.
delete process.env.NODE_OPTIONS
t.jobs = 2

/** A server with a hundred connections has about 130. */
const fuzzedMbMax = 400

const small: RunOptions = { seed, minutes: 0.06, users: 24, rate: 300, faults: [], serverEveryMs: 1_200, healMsMax: 4_000 }

function stockAedes(events: DeploymentEvents): Deployment {
  const program = fileURLToPath(new URL('./helper/aedes-subject.js', import.meta.url))
  const node = new ServerProcess({
    ...{ name: 'aedes', command: [process.execPath, program], env: {}, clockFile: undefined, writeClock: () => undefined, events },
  })
  return {
    nodes: [node],
    secret: 'nobody looks at it, but it must be long enough',
    cannot: () => undefined,
    fillDisk: () => undefined,
    freeDisk: () => undefined,
    filtersOf: ({ user, groups }) => [`u/${user}/msg`, ...groups.map((group) => `${group}/msg`)],
    close: () => node.kill(),
  }
}

/** Servers that are broken in ways that the verdict tells apart. */
const finds = (broken: readonly Find[], options: Partial<RunOptions>, settings?: Record<string, string>): void =>
  findsAll(
    t,
    broken,
    { ...small, ...options },
    async (dir, cli) => (events) => createEmbedded({ dir, events, cli, ...(settings && { settings }) }),
  )

const { ackBeforeAppend, ackBeforeWrite, failureTakenAsDone, cursorBeforePuback, noDedup, noMembership } = mutations
const { neverOnline, noAuthor, noBlocks, noDismissal, noHandler, noSecondStart, noTakeover, caughtUpTooEarly } = mutations

finds([[ackBeforeAppend, 'lost']], { faults: ['kill'], minutes: 0.08, serverEveryMs: 2_000 })
// The store itself may notice that its journal ends too early, and not start.
finds([[ackBeforeWrite, 'lost', 'unbounded']], { faults: ['kill'], minutes: 0.08, serverEveryMs: 2_000 })
finds([[failureTakenAsDone, 'lost', 'falsely acked']], { faults: ['disk'], minutes: 0.1, serverEveryMs: 3_000 })
finds([[noSecondStart, 'unbounded']], { faults: ['kill'] })
finds([[noHandler, 'unbounded']], { faults: ['fuzz'] })
finds(
  [
    [noDedup, 'duplicated'],
    [noDismissal, 'leaked'],
    [noAuthor, 'unlawful'],
    [noTakeover, 'sessions'],
  ],
  { faults: ['repeat', 'same-id', 'reset', 'same-device', 'members'] },
)
finds(
  [
    [cursorBeforePuback, 'lost', 'gaps'],
    [noBlocks, 'unlawful'],
    [noMembership, 'leaked'],
  ],
  { faults: ['withhold'] },
)
finds([[neverOnline, 'presence']], { faults: ['cut'] })
finds([[caughtUpTooEarly, 'lost', 'gaps']], { faults: ['freeze', 'away', 'withhold'] }, { PARLEY_WINDOW: '4' })

t.test('found: stock Aedes loses messages by kill -9', { buffered: true }, async (t) => {
  const { wrong } = (await audit(t, { ...small, faults: ['kill'] }, async () => stockAedes)).verdict
  t.ok(wrong.lost > 0, `${wrong.lost} lost`)
})

t.test('found: stock Aedes stores twice what is sent twice, and lets everybody write', { buffered: true }, async (t) => {
  const { wrong } = (await audit(t, { ...small, faults: ['repeat', 'same-id', 'reset', 'away'] }, async () => stockAedes)).verdict
  t.ok(wrong.duplicated > 0, `${wrong.duplicated} duplicated`)
  t.ok(wrong.leaked > 0, `${wrong.leaked} leaked`)
})

t.test('20 s of malformed packets beside a chat: it goes on as if there were none', { buffered: true }, async (t) => {
  const options: RunOptions = { seed, minutes: 1 / 3, users: 24, rate: 100, faults: ['fuzz'] }
  const { history, verdict } = await audit(t, options, async (dir) => (events) => createEmbedded({ dir, events }))
  t.same(verdict.violations, [])
  t.ok(verdict.acked > 1_500, `${verdict.acked} messages were acknowledged meanwhile`)
  const [tcp = 0, ws = 0, welcome = 0, packets = 0] = (history.faults[0]?.what ?? '').match(/\d+/g)?.map(Number) ?? []
  // How much 20 s are depends on the machine; that it came past CONNECT both ways does not.
  t.ok(Math.min(tcp, ws, welcome) > 50 && packets > 1_000, String(history.faults[0]?.what))
  t.same(
    history.nodes.map(({ why }) => why),
    ['exit code 0'],
    'the server lived to its orderly end',
  )
  const rss = history.samples.map(({ rssMb }) => rssMb)
  t.ok(Math.max(...rss) < fuzzedMbMax, `at most ${Math.max(...rss)} MB`)
})

t.test('docs/prove.md has every kind of fault, as faults.ts has it', { buffered: true }, async (t) => {
  const text = readFileSync(fileURLToPath(new URL('../../docs/prove.md', import.meta.url)), 'utf8')
  const documented = [...text.matchAll(/^\| `([a-z-]+)` \| (.*) \|$/gm)].map(([, kind, meaning]) => ({ kind, meaning }))
  t.same(
    documented,
    Object.entries(kinds).map(([kind, { meaning }]) => ({ kind, meaning })),
  )
})

t.test('a stalled server is there, and answers nothing until it is let go', { buffered: true }, async (t) => {
  const deployment = createEmbedded({ dir: join(folder(t), 'deployment'), events: { exited: () => undefined, logged: () => undefined } })
  t.teardown(() => deployment.close())
  const [node] = deployment.nodes
  await node?.start()
  node?.freeze()
  const answer = node?.metric('parley_sessions')
  t.equal(await Promise.race([answer, delay(500, 'nothing')]), 'nothing')
  node?.thaw()
  t.equal(await answer, 0)
})

t.test('a server whose clock is moved writes with that clock', { buffered: true }, async (t) => {
  const deployment = createEmbedded({ dir: join(folder(t), 'deployment'), events: { exited: () => undefined, logged: () => undefined } })
  t.teardown(() => deployment.close())
  const [node] = deployment.nodes
  await node?.start()
  const api = new Api(deployment, () => 0)
  await api.addUsers(['alice'])
  const hourMs = 3_600_000
  const ahead = async (group: string): Promise<number> => {
    await api.rpc('alice', 'group.create', { group, name: group, members: [] })
    const { messages } = (await api.rpc('alice', 'history', { conv: `g/${group}` })) as { messages: { ts: number }[] }
    return (messages[0]?.ts ?? 0) - Date.now()
  }
  t.ok(Math.abs(await ahead('before')) < hourMs / 2)
  node?.setClock(hourMs)
  let groups = 0
  await eventually(async () => (await ahead(`after${groups++}`)) > hourMs / 2, { what: 'an entry of an hour later' })
})

t.test('a mutation whose string is gone fails loudly', { buffered: true }, async (t) => {
  t.throws(() => buildMutant([{ title: '', file: 'broker/hub.js', find: 'no such code', replace: '' }], folder(t)), /0 times/)
})

const exits = ({ nodes }: History, why: string): number => nodes.filter((node) => node.isOrdered && node.why === why).length
const wasDone =
  (wanted: FaultKind) =>
  ({ faults }: History): boolean =>
    faults.some(({ kind }) => kind === wanted)

/** What a fault must have left in a history when it was really done. */
const traces: Partial<Record<FaultKind, (history: History) => boolean>> = {
  // The last one of each is the audit's own.
  kill: (history) => exits(history, 'SIGKILL') > 1,
  restart: (history) => exits(history, 'exit code 0') > 1,
  stall: wasDone('stall'), // Tested above.
  disk: ({ logged }) => logged.some(({ text }) => text.includes('the store')),
  clock: wasDone('clock'), // Tested above.
  cut: ({ connections }) => connections.some(({ downAt }) => downAt !== undefined),
  reset: ({ connections }) => connections.some(({ downAt }) => downAt !== undefined),
  delay: wasDone('delay'), // These are tested where the proxy is.
  trickle: wasDone('trickle'),
  'half-open': wasDone('half-open'), // How it is felt depends on whom it hits, and when; so do the others.
  freeze: wasDone('freeze'),
  withhold: wasDone('withhold'),
  away: wasDone('away'),
  repeat: wasDone('repeat'),
  'same-id': wasDone('same-id'),
  'same-device': wasDone('same-device'),
  members: ({ members, reads }) => members.some(({ change }) => change !== 'create') && reads.some(({ by }) => by === 'peek'),
  mute: wasDone('mute'),
  people: ({ blocks }) => blocks.length > 0,
  media: ({ sends }) => sends.some(({ file }) => file !== undefined),
  token: ({ faults }) => faults.some(({ kind, what }) => kind === 'token' && /^[1-9]/.test(what)),
  fuzz: ({ faults }) => faults.some(({ kind, what }) => kind === 'fuzz' && /^[1-9]/.test(what)),
}

t.test('Parley passes all kinds of faults, as a program, and its history can be judged again', { buffered: true }, async (t) => {
  const dir = folder(t)
  const cli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))
  const run = (...words: (string | Record<string, string>)[]) => {
    const args = words.filter((word) => typeof word === 'string')
    const env = Object.assign({}, process.env, ...words.filter((word) => typeof word !== 'string'))
    const child = spawn(process.execPath, [cli, 'prove', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString()
      })
    return new Promise<{ code: number | null; output: string }>((resolve) => child.on('close', (code) => resolve({ code, output })))
  }
  const kept = join(dir, `history-${seed}.jsonl`)
  const files = ['--html', join(dir, 'report.html'), '--keep', dir]
  const { code, output } = await run('--minutes', '0.6', '--users', '40', '--rate', '120', '--seed', String(seed), ...files)
  t.equal(code, 0, output)
  t.match(output, /PROVED/)
  const history = await readHistory(kept)
  for (const kind of faultKinds) {
    const hasLeft = traces[kind] ?? (() => false)
    if (history.run.skipped.some((skip) => skip.kind === kind)) t.comment(`${kind} cannot be done here`)
    else t.ok(hasLeft(history), `${kind} has left a trace`)
  }
  const again = await run('--judge', kept, '--json', '-')
  t.equal(again.code, 0)
  t.match(again.output, /"isProved": true/)
  const doctored = join(dir, 'doctored.jsonl')
  writeFileSync(doctored, readFileSync(kept, 'utf8').replace(/^\{"event":"message","conv":"u\/.*\n/m, ''))
  const broken = await run('--judge', doctored)
  t.equal(broken.code, 1, 'a history from which one message is gone')
  t.match(broken.output, /BROKEN/)
  for (const wrong of [
    ['--faults', 'kil'],
    ['--judge', join(dir, 'nothing')],
    ['--judge', fileURLToPath(import.meta.url)],
  ]) {
    const { code, output } = await run(...wrong)
    t.equal(code, 2, output)
    t.notMatch(output, /\n\s+at /, 'no stack trace')
  }
  const unable = await run('--minutes', '0.05', '--users', '8', { PARLEY_WINDOW: 'many' })
  t.equal(unable.code, 3, unable.output)
  t.match(unable.output, /nothing was judged.*PARLEY_WINDOW/s)
})
