/**
 * Goes over a part of a conversation and takes the content of messages away, a bounded batch at a time, with pauses in which everybody else
 * has the store to himself. Cut off at any point it can be done again from the start.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { PluginHost } from './plugin-host.js'
import type { LogEntry, MessageLog } from './store/store.js'
import { isTombstone, tombstoneOf } from './tombstone.js'
import type { ConversationId } from './topics.js'

/** `end`: neither this entry nor what is behind it. */
type Judgement = 'erase' | 'keep' | 'end'

export interface Sweep {
  log: MessageLog
  conv: ConversationId
  from: number
  to: number
  judge(entry: LogEntry): Judgement
  /** Told before the content of entries goes; what they reject with ends the sweep. */
  plugins: Pick<PluginHost, 'beforeErase'>
  /** Aborted: the sweep rejects at its next pause. */
  signal: AbortSignal
}

const batchMax = 256
const batchBytesMax = 1024 * 1024
/** A pause takes so many times what the batch took. */
const restFactor = 3
const restMsMax = 1_000

/** Resolves with the first seq that was not looked at, and how many messages without content there are now of those judged `erase`. */
export async function sweep({ log, conv, from, to, judge, plugins, signal }: Sweep): Promise<{ next: number; erased: number }> {
  let [next, erased, isOver] = [from, 0, false]
  while (next <= to && !isOver) {
    const started = performance.now()
    const payloads = new Map<number, Buffer>()
    const going: LogEntry[] = []
    const entries = await log.read(conv, next, to, batchMax, batchBytesMax)
    if (entries.length === 0) break
    for (const entry of entries) {
      const judgement = judge(entry)
      isOver = judgement === 'end'
      if (isOver) break
      next = entry.seq + 1
      if (judgement === 'keep') continue
      const tombstone = tombstoneOf(entry)
      if (tombstone !== undefined) {
        payloads.set(entry.seq, tombstone)
        going.push(entry)
      }
      if (tombstone !== undefined || isTombstone(entry.payload)) erased++
    }
    if (going.length > 0) {
      await plugins.beforeErase(conv, going)
      await log.rewrite(conv, payloads)
    }
    await delay(Math.min((performance.now() - started) * restFactor, restMsMax), undefined, { signal, ref: false })
  }
  return { next, erased }
}
