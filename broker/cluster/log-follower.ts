/**
 * Hears what the other nodes have written. Nothing that a node told is missed for longer than a few seconds: the numbers of its frames
 * show what was lost, its digests name the conversations, and where they do not reach back, where a node falls silent, or where this
 * node hears nobody, the log itself is asked.
 */
import type { Bus } from '../bus.js'
import type { Logger } from '../logger.js'
import type { ConversationId } from '../topics.js'
import { type Digest, decodeDigest, decodeFrame, type FrameOfEntries, type Written } from './frame.js'
import type { LogCheck } from './log-check.js'
import { digestKind, digestMs, frameKind } from './log-feed.js'
import type { LogOrder } from './log-order.js'

export interface LogFollowerOptions {
  bus: Bus
  order: LogOrder
  check: LogCheck
  logger: Logger
  /** What another node has written, for whoever decides on the next entry. */
  learned(written: Written): void
  /** Another node has come to this entry, and what it wrote may have been missed. */
  missed(conv: ConversationId, head: number): void
  observeLost?: () => void
}

interface Peer {
  /** The frame after all that were heard. */
  next: number
  /** The first that was not heard and that no digest has covered. */
  missing: number | undefined
  heardMs: number
  /** When everything was last checked because it is silent; 0: it is heard. */
  checkedMs: number
}

const silentMs = 3 * digestMs
const lookMs = 1_000
/** While a node that may still write is not heard this one looks for itself, with this pause. */
const againMs = 5_000
/** One that was silent for so long has ended; if it has not, it is heard in the end, and what it wrote then. */
const deadMs = 60_000
/** Of nodes that were heard of; those silent for an hour are forgotten. */
const forgottenMs = 3_600_000

export class LogFollower {
  readonly #options: LogFollowerOptions
  readonly #peers = new Map<string, Peer>()
  readonly #timer: NodeJS.Timeout
  #checkedMs = 0

  constructor(options: LogFollowerOptions) {
    this.#options = options
    const { bus } = options
    bus.on(frameKind, (bytes, node) => this.#read(node, bytes, decodeFrame, (frame) => this.#hearFrame(node, frame)))
    bus.on(digestKind, (bytes, node) => this.#read(node, bytes, decodeDigest, (digest) => this.#hearDigest(node, digest)))
    this.#timer = setInterval(() => this.#look(performance.now()), lookMs).unref()
  }

  /** Nodes that are heard. */
  get peers(): number {
    let count = 0
    for (const { checkedMs } of this.#peers.values()) if (checkedMs === 0) count++
    return count
  }

  /** Nobody who was heard lately is silent. */
  get hearsAll(): boolean {
    const nowMs = performance.now()
    return [...this.#peers.values()].every(({ heardMs }) => nowMs - heardMs < silentMs || nowMs - heardMs > deadMs)
  }

  #read<Told>(node: string, bytes: Buffer, decode: (bytes: Buffer) => Told, hear: (told: Told) => void): void {
    let told: Told
    try {
      told = decode(bytes)
    } catch (error) {
      this.#options.logger.warn({ err: error, node }, 'what another node says of the log cannot be read')
      return
    }
    hear(told)
  }

  #peerOf(node: string): Peer {
    let peer = this.#peers.get(node)
    if (peer === undefined) {
      this.#options.logger.info({ node }, 'hears another node')
      peer = { next: 0, missing: undefined, heardMs: 0, checkedMs: 0 }
      this.#peers.set(node, peer)
    }
    peer.heardMs = performance.now()
    peer.checkedMs = 0
    return peer
  }

  /** Frames up to `next` were sent. */
  #expect(peer: Peer, next: number): void {
    if (next <= peer.next) return
    peer.missing ??= peer.next
    peer.next = next
    this.#options.observeLost?.()
  }

  #hearFrame(node: string, { number, entries }: FrameOfEntries): void {
    const peer = this.#peerOf(node)
    this.#expect(peer, number)
    if (number === peer.next) peer.next = number + 1
    const { order, learned } = this.#options
    for (const written of entries) {
      const { conv, entry, effects } = written
      learned(written)
      order.offer(conv, entry, effects)
    }
  }

  #hearDigest(node: string, { number, from, heads, last }: Digest): void {
    const peer = this.#peerOf(node)
    this.#expect(peer, number)
    const { order, missed } = this.#options
    for (const { conv, head, joined } of heads) {
      if (peer.missing !== undefined) missed(conv, head)
      order.reached(conv, head, joined)
    }
    if (peer.missing !== undefined && from > peer.missing) this.#check('a node told more than its digest covers', node)
    peer.missing = undefined
    if (last) this.#peers.delete(node)
  }

  /** What a node wrote before it fell silent may not have been told; what others write while nobody is heard is not. */
  #look(nowMs: number): void {
    for (const [node, peer] of this.#peers) {
      const silent = nowMs - peer.heardMs
      if (silent > forgottenMs) this.#peers.delete(node)
      if (silent < silentMs || silent > deadMs || nowMs - peer.checkedMs < againMs) continue
      peer.checkedMs = nowMs
      this.#check('a node is silent', node)
    }
    if (!this.#options.bus.isUp && nowMs - this.#checkedMs >= againMs) this.#check('the bus is down', '')
  }

  #check(why: string, node: string): void {
    this.#checkedMs = performance.now()
    this.#options.logger.warn({ why, node }, 'messages of other nodes may have been missed: asks the log')
    this.#options.check.start()
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
