/** Audits as tests of the audit: one run with its history and verdict, and runs that must find what a broken build does. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { check } from '../../audit/checker.js'
import type { Deployment, DeploymentEvents } from '../../audit/deployment.js'
import { type History, readHistory } from '../../audit/history.js'
import { silent } from '../../audit/live.js'
import { type RunOptions, runAudit } from '../../audit/run.js'
import type { Verdict, Wrong } from '../../audit/verdict.js'
import { buildMutant, type Mutation } from './mutations.js'

/** What is made in the folder is removed again. */
export type Deploy = (dir: string) => Promise<(events: DeploymentEvents) => Deployment>

/** A folder outside of the project: a data directory may be mounted in it. */
export function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'parley-audit-test-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export async function audit(t: Test, options: RunOptions, deploy: Deploy): Promise<{ history: History; verdict: Verdict }> {
  const dir = folder(t)
  const file = join(dir, 'history.jsonl')
  await runAudit(options, { file, live: silent, deploy: await deploy(join(dir, 'deployment')) })
  const history = await readHistory(file)
  const verdict = check(history)
  t.comment(`${verdict.sent} sent, ${verdict.delivered} delivered, wrong: ${JSON.stringify(verdict.wrong)}`)
  for (const { wrong, text } of verdict.violations.slice(0, 5)) t.comment(`${wrong}: ${text}`)
  return { history, verdict }
}

const runsMax = 3

export type Find = [mutation: Mutation, ...wrongs: Wrong[]]

/**
 * Servers that are broken in ways that the verdict tells apart: each is found, as one of the wrongs that are named with it. `cli` is that of the
 * broken build. What is broken as well would heal what is to be found.
 */
export function findsAll(
  t: Test,
  broken: readonly Find[],
  options: RunOptions,
  deploy: (dir: string, cli: string) => ReturnType<Deploy>,
  alsoBroken: readonly Mutation[] = [],
): void {
  const mutated = [...broken.map(([mutation]) => mutation), ...alsoBroken]
  t.test(`found: a server that ${mutated.map(({ title }) => title).join(', and ')}`, { buffered: true }, async (t) => {
    const counts = broken.map(() => 0)
    // On a busy machine less is said and done in the same time: what is not found is looked for again, for longer.
    for (let run = 1; run <= runsMax && counts.includes(0); run++) {
      const longer = { ...options, minutes: options.minutes * run }
      const { history, verdict } = await audit(t, longer, (dir) => deploy(dir, buildMutant(mutated, folder(t))))
      const [skipped] = history.run.skipped
      if (skipped !== undefined) return t.comment(`${skipped.kind} cannot be done here: ${skipped.why}`)
      for (const [at, [, ...wrongs]] of broken.entries())
        counts[at] = (counts[at] ?? 0) + verdict.violations.filter(({ wrong }) => wrongs.includes(wrong)).length
    }
    for (const [at, [{ title }, ...wrongs]] of broken.entries()) t.ok(counts[at], `${title}: ${counts[at]} × ${wrongs.join(' or ')}`)
  })
}
