/**
 * The fault audit judged itself: it passes on Parley, and it finds what is broken, each by its own name, in stock Aedes and in
 * builds of Parley with one promise taken away.
 */

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { check } from '../audit/checker.js'
import type { Deployment, DeploymentEvents } from '../audit/deployment.js'
import { createEmbedded } from '../audit/embedded.js'
import { kinds } from '../audit/faults.js'
import { readHistory } from '../audit/history.js'
import { silent } from '../audit/live.js'
import { type RunOptions, runAudit } from '../audit/run.js'
import { ServerProcess } from '../audit/server-process.js'
import type { Verdict } from '../audit/verdict.js'
import { newSeed } from './contract/entries.js'
import { buildMutant, type Mutation, mutations } from './helper/mutations.js'

const seed = newSeed()
t.comment(`PARLEY_TEST_SEED=${seed}`)
t.setTimeout(240_000)
t.jobs = 2

const small: RunOptions = { seed, minutes: 0.06, users: 24, rate: 300, faults: [], serverEveryMs: 1_200, healMsMax: 6_000 }

/** A folder outside of the project: a data directory may be mounted in it. */
function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'parley-audit-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function audit(t: Test, options: RunOptions, deploy: (events: DeploymentEvents, dir: string) => Deployment): Promise<Verdict> {
  const dir = folder(t)
  const file = join(dir, 'history.jsonl')
  await runAudit(options, { file, live: silent, deploy: (events) => deploy(events, join(dir, 'deployment')) })
  const verdict = check(await readHistory(file))
  t.comment(`${verdict.sent} sent, ${verdict.delivered} delivered, wrong: ${JSON.stringify(verdict.wrong)}`)
  return verdict
}

const mutant =
  (t: Test, mutation: Mutation, settings: Record<string, string> = {}) =>
  (events: DeploymentEvents, dir: string): Deployment =>
    createEmbedded({ dir, events, settings, cli: buildMutant(mutation, folder(t)) })

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
    filtersOf: (user, groups) => [`u/${user}/msg`, ...groups.map((group) => `${group}/msg`)],
    close: () => node.kill(),
  }
}

function finds(
  title: string,
  options: Partial<RunOptions>,
  mutation: Mutation,
  expected: (verdict: Verdict) => number,
  settings?: Record<string, string>,
): void {
  t.test(`found: a server that ${title}`, { buffered: true }, async (t) => {
    const verdict = await audit(t, { ...small, ...options }, mutant(t, mutation, settings))
    t.ok(expected(verdict) > 0, `${expected(verdict)} violations of this kind`)
    t.not(verdict.violations.length, 0)
  })
}

const { ackBeforeAppend, cursorBeforePuback, noDedup, noDismissal, caughtUpTooEarly } = mutations

finds(ackBeforeAppend.title, { faults: ['kill'] }, ackBeforeAppend, ({ wrong }) => wrong.lost)
finds(cursorBeforePuback.title, { faults: ['withhold'] }, cursorBeforePuback, ({ wrong }) => wrong.lost + wrong.gaps)
finds(noDedup.title, { faults: ['repeat', 'same-id', 'reset'] }, noDedup, ({ wrong }) => wrong.duplicated)
finds(noDismissal.title, { faults: ['members'] }, noDismissal, ({ wrong }) => wrong.leaked)
finds(caughtUpTooEarly.title, { faults: ['freeze', 'away', 'withhold'] }, caughtUpTooEarly, ({ wrong }) => wrong.lost + wrong.gaps, {
  PARLEY_WINDOW: '4',
})

t.test('found: stock Aedes loses messages by kill -9', { buffered: true }, async (t) => {
  const { wrong } = await audit(t, { ...small, faults: ['kill'] }, stockAedes)
  t.ok(wrong.lost > 0, `${wrong.lost} lost`)
})

t.test('found: stock Aedes delivers twice and out of order when clients come back', { buffered: true }, async (t) => {
  const { wrong } = await audit(t, { ...small, faults: ['repeat', 'same-id', 'reset', 'away'] }, stockAedes)
  t.ok(wrong.duplicated > 0, `${wrong.duplicated} duplicated`)
})

t.test('docs/prove.md has every kind of fault, as faults.ts has it', { buffered: true }, async (t) => {
  const text = readFileSync(fileURLToPath(new URL('../../docs/prove.md', import.meta.url)), 'utf8')
  const documented = [...text.matchAll(/^\| `([a-z-]+)` \| (.*) \|$/gm)].map(([, kind, meaning]) => ({ kind, meaning }))
  t.same(
    documented,
    Object.entries(kinds).map(([kind, { meaning }]) => ({ kind, meaning })),
  )
})

t.test('a mutation whose string is gone fails loudly', { buffered: true }, async (t) => {
  t.throws(() => buildMutant({ title: '', file: 'broker/hub.js', find: 'no such code', replace: '' }, folder(t)), /0 times/)
})

t.test('Parley passes all kinds of faults, as a program, and its history can be judged again', { buffered: true }, async (t) => {
  const dir = folder(t)
  const cli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))
  const run = (...args: string[]) => {
    const child = spawn(process.execPath, [cli, 'prove', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString()
      })
    return new Promise<{ code: number | null; output: string }>((resolve) => child.on('close', (code) => resolve({ code, output })))
  }
  const files = ['--html', join(dir, 'report.html'), '--keep', dir]
  const { code, output } = await run('--minutes', '0.3', '--users', '60', '--rate', '120', '--seed', String(seed), ...files)
  t.equal(code, 0, output)
  t.match(output, /PROVED/)
  const again = await run('--judge', join(dir, `history-${seed}.jsonl`), '--json', '-')
  t.equal(again.code, 0)
  t.match(again.output, /"isProved": true/)
  const wrong = await run('--faults', 'kil')
  t.equal(wrong.code, 2)
  t.match(wrong.output, /there are kill, restart/)
})
