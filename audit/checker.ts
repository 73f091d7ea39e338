/**
 * Judges a history against the invariants I1–I9: a pure function. It knows nothing of the server but what clients saw, and it takes
 * membership from the `system` entries of the logs themselves. test/audit.test.ts shows that it fails on broken servers.
 */
import { checkConnections, checkSessions, sessionsOf } from './checks/delivery.js'
import { checkLog, checkSenderOrder, checkSends } from './checks/log.js'
import { checkMedia } from './checks/media.js'
import { checkWatches } from './checks/presence.js'
import { checkReads } from './checks/reads.js'
import { checkRules } from './checks/rules.js'
import { checkPresence, checkServer } from './checks/sessions.js'
import { checkStatus } from './checks/status.js'
import { createWorld, type World } from './checks/world.js'
import type { ConnectionRecord, History } from './history.js'
import { type Report, type Verdict, type Violation, type Wrong, wrongNames } from './verdict.js'

const textsPerWrongMax = 20

export function check(history: History): Verdict {
  const world = createWorld(history)
  const wrong = Object.fromEntries(wrongNames.map((name) => [name, 0])) as Record<Wrong, number>
  const violations: Violation[] = []
  const report: Report = (name, text) => {
    if (++wrong[name] <= textsPerWrongMax) violations.push({ wrong: name, text })
  }
  if (isReadBack(history)) {
    checkLog(history, world, report)
    checkSends(history, world, report)
    checkSenderOrder(history, world, report)
    checkConnections(history, world, report)
    checkSessions(history, world, report)
    checkReads(history, world, report)
    checkMedia(history, world, report)
    checkRules(history, world, report)
    checkStatus(history, world, report)
    checkWatches(history, world, report)
  }
  checkPresence(history, report)
  checkServer(history, report)
  return { ...count(history, world), wrong, violations, notes: notesOf(history) }
}

/** Without the log everything would look lost, and what is wrong would not be seen. */
const isReadBack = ({ healed }: History): boolean => healed !== undefined && healed.isRead !== false

function count(history: History, { log }: World): Omit<Verdict, 'wrong' | 'violations' | 'notes'> {
  const { sends, connections } = history
  const delivered = connections.reduce((sum, connection) => sum + countRuns(connection), 0)
  return {
    sent: sends.length,
    acked: sends.filter(({ isPubacked, refusals }) => isPubacked && refusals.length === 0).length,
    refused: sends.filter(({ refusals }) => refusals.length > 0).length,
    stored: [...log.values()].reduce((sum, entries) => sum + entries.filter((entry) => entry !== undefined).length, 0),
    delivered,
    replayed: connections.reduce((sum, { ready }) => sum + (ready?.replayed ?? 0), 0),
    repeated: delivered - countDistinct(history),
    connections: connections.length,
  }
}

function countRuns({ before, after }: ConnectionRecord): number {
  let sum = 0
  for (const runs of [before, after]) for (const own of Object.values(runs)) for (const [from, to] of own) sum += to - from + 1
  return sum
}

function countDistinct(history: History): number {
  let sum = 0
  for (const session of sessionsOf(history)) {
    const got = new Map<string, Set<number>>()
    for (const { before, after } of session) {
      for (const runs of [before, after]) {
        for (const [conv, own] of Object.entries(runs)) {
          const seqs = got.get(conv) ?? new Set()
          got.set(conv, seqs)
          for (const [from, to] of own) for (let seq = from; seq <= to; seq++) seqs.add(seq)
        }
      }
    }
    for (const seqs of got.values()) sum += seqs.size
  }
  return sum
}

/** What is worth knowing and breaks nothing. */
function notesOf(history: History): string[] {
  const { connections, logged, samples, healed } = history
  const notes: string[] = []
  if (!isReadBack(history)) notes.push('the log could not be read back, so messages were not judged')
  const cut = connections.filter(({ ready }) => ready?.truncated !== undefined).length
  if (cut > 0) notes.push(`${cut} backlogs were over the configured bound and cut, which ready said`)
  const errors = logged.filter(({ level }) => level === 'error').length
  if (errors > 0) notes.push(`the server logged ${errors} errors`)
  const rss = samples.map(({ rssMb }) => rssMb).filter((mb) => mb > 0)
  if (rss.length > 0) notes.push(`memory of the server: at most ${Math.max(...rss)} MB, at the end ${rss.at(-1)} MB`)
  if (healed?.complaint === '') notes.push(`everything had settled ${healed.waitedMs} ms after healing`)
  return notes
}
