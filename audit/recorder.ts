/**
 * Writes the history of a run while it happens: one JSON line per event. Payloads are written when they are seen first and
 * compared afterwards, so a message to 500 members is one line; what a connection receives is joined to runs of seqs.
 * The runner and all clients share one recorder.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import type { ConversationId } from '../broker/topics.js'
import type { Event, Run, Runs } from './history.js'
import { PresenceBoard } from './presence-board.js'

const bufferCharsMax = 1 << 18

export class Recorder {
  sent = 0
  acked = 0
  refused = 0
  delivered = 0
  readonly presence = new PresenceBoard()
  readonly file: string
  readonly #fd: number
  readonly #startedMs = performance.now()
  readonly #seen = new Map<ConversationId, (Buffer | undefined)[]>()
  #lines: string[] = []
  #chars = 0
  #clock = 0
  #connections = 0
  #sends = 0
  #clients = 0
  #positions = 0
  /** Per user and conversation the highest seq that a device of his has acknowledged. */
  readonly #acknowledged = new Map<string, number>()

  constructor(file: string) {
    this.file = file
    this.#fd = openSync(file, 'w')
  }

  get ms(): number {
    return Math.round(performance.now() - this.#startedMs)
  }

  /** Orders the events of the run. */
  tick(): number {
    return ++this.#clock
  }

  nextClient(): number {
    return this.#clients++
  }

  nextConnection(): number {
    return this.#connections++
  }

  nextPosition(): number {
    return this.#positions++
  }

  /** A device of the user sends PUBACK for it, now. */
  acknowledged(user: string, conv: ConversationId, seq: number): void {
    const key = `${user} ${conv}`
    if (seq > (this.#acknowledged.get(key) ?? 0)) this.#acknowledged.set(key, seq)
  }

  acknowledgedBy(user: string, conv: ConversationId): number {
    return this.#acknowledged.get(`${user} ${conv}`) ?? 0
  }

  nextSend(): number {
    this.sent++
    return this.#sends++
  }

  write(event: Event): void {
    this.presence.note(event)
    const line = `${JSON.stringify(event)}\n`
    this.#lines.push(line)
    this.#chars += line.length
    if (this.#chars >= bufferCharsMax) this.#flush()
  }

  /** Somebody was shown this payload. */
  message(conv: ConversationId, seq: number, raw: Buffer, who: string): void {
    let seen = this.#seen.get(conv)
    if (seen === undefined) {
      seen = []
      this.#seen.set(conv, seen)
    }
    const first = seen[seq]
    if (first === undefined) {
      seen[seq] = Buffer.from(raw)
      this.write({ event: 'message', conv, seq, raw: raw.toString() })
    } else if (!first.equals(raw)) this.write({ event: 'changed', conv, seq, raw: raw.toString(), who })
  }

  #flush(): void {
    const bytes = Buffer.from(this.#lines.join(''))
    this.#lines = []
    this.#chars = 0
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at)
  }

  close(): void {
    this.#flush()
    closeSync(this.#fd)
  }
}

/** Joins a seq to the last run, or begins one. */
export function addToRuns(runs: Runs, conv: ConversationId, seq: number): void {
  const own = runs[conv]
  if (own === undefined) runs[conv] = [[seq, seq]]
  else joinRun(own, seq)
}

export function joinRun(runs: Run[], seq: number): void {
  const last = runs.at(-1)
  if (last !== undefined && last[1] === seq - 1) last[1] = seq
  else runs.push([seq, seq])
}
