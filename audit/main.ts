/**
 * `parley prove`: runs the fault audit or judges a kept history again, prints the verdict, and writes the reports that were asked
 * for. Exit code 1 when a promise was broken; the history is kept then, wherever it was. Exit code 3 when nothing was judged: the
 * run was ended from outside, or the audit could not be carried out.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { OperatorError } from '../broker/operator-error.js'
import { check } from './checker.js'
import { createCluster } from './cluster.js'
import type { Deployment, DeploymentEvents } from './deployment.js'
import { createEmbedded } from './embedded.js'
import { type History, readHistory } from './history.js'
import { renderHtml } from './html.js'
import { createLive } from './live.js'
import { type ProveOptions, parseProveOptions, type RawProveOptions } from './options.js'
import { renderTable, toJson } from './report.js'
import { runAudit } from './run.js'
import { isSlowStore } from './service.js'
import { type Verdict, violationCount } from './verdict.js'

const notJudged = 3
/** What FerretDB 1 keeps up with. */
const slowStore = { users: 12, rate: 8 }

export async function prove(raw: RawProveOptions): Promise<void> {
  const options = parseProveOptions(raw)
  if (options.judge !== undefined) {
    const history = await readHistory(options.judge).catch(unreadable)
    return finish(options, history, check(history))
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => interrupted(signal))
  const dir = mkdtempSync(join(tmpdir(), 'parley-prove-'))
  const file = join(dir, 'history.jsonl')
  const remove = (): void => rmSync(dir, { recursive: true, force: true })
  process.once('exit', remove)
  try {
    process.stderr.write(
      `parley prove: ${options.users} users, ${options.rate} messages/s, ${options.minutes} min, ${options.nodes > 1 ? `${options.nodes} nodes, ` : ''}seed ${options.seed}\n`,
    )
    if (options.nodes > 1 && isSlowStore() && (options.users > slowStore.users || options.rate > slowStore.rate))
      process.stderr.write(
        `the store is FerretDB 1, which keeps up with about --users ${slowStore.users} --rate ${slowStore.rate}; with more it is late, and the verdict says so: --settle 300 waits for it\n`,
      )
    const deployment = join(dir, 'deployment')
    const deploy =
      options.nodes > 1
        ? await createCluster({ dir: deployment, nodes: options.nodes })
        : (events: DeploymentEvents): Deployment => createEmbedded({ dir: deployment, events })
    await runAudit(options, { file, deploy, live: createLive(process.stderr) })
    const history = await readHistory(file)
    const verdict = check(history)
    keep(options, file, verdict)
    finish(options, history, verdict)
  } catch (error) {
    const words = error instanceof OperatorError ? error.message : (error as Error).stack
    process.stderr.write(`nothing was judged, the audit could not be carried out: ${words}\n`)
    process.exitCode = notJudged
  } finally {
    process.removeListener('exit', remove)
    remove()
  }
}

/** Ends at once; what the audit has started and made goes with it. */
function interrupted(signal: string): never {
  process.stderr.write(`\nended by ${signal}: nothing was judged\n`)
  process.exit(notJudged)
}

function unreadable(error: unknown): never {
  throw new OperatorError(`--judge: ${(error as Error).message}`)
}

function keep({ keep: folder, seed }: ProveOptions, file: string, verdict: Verdict): void {
  if (folder === undefined && violationCount(verdict) === 0) return
  const target = folder ?? mkdtempSync(join(tmpdir(), 'parley-prove-kept-'))
  mkdirSync(target, { recursive: true })
  const kept = join(target, `history-${seed}.jsonl`)
  copyFileSync(file, kept)
  process.stderr.write(`history: ${kept}; judge it again with: parley prove --judge ${kept}\n`)
}

function finish({ html, json }: ProveOptions, history: History, verdict: Verdict): void {
  const table = renderTable(history, verdict)
  if (json === '-') process.stdout.write(toJson(history, verdict))
  else if (json !== undefined) writeFileSync(json, toJson(history, verdict))
  if (html !== undefined) writeFileSync(html, renderHtml(history, verdict))
  const out = json === '-' ? process.stderr : process.stdout
  out.write(table)
  if (violationCount(verdict) > 0) process.exitCode = 1
}
