/**
 * Receives uploads into files of this node. What is whole and is what it was said to be is handed on, synced; of everything else (cut off,
 * too long, too short, another type, no room) nothing stays. A refused body is read to its end, for the client to hear why. What a crash
 * has left is removed at start.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { type Refusal, refuse } from '../../broker/errors.js'
import { HttpRefusal } from '../../broker/http-route.js'
import { faultOfHead, headBytes } from './media-types.js'

export interface Received {
  path: string
  sha256: string
}

/** What must stay free for the messages: the store of messages stops earlier than a full disk, too. */
const roomBytesMin = 256 * 1024 * 1024
const roomShareMin = 1 / 8
/** A body that is longer than it should be is read so far, then cut off. */
const surplusBytesMax = 1024 * 1024

export class Incoming {
  readonly #dir: string
  /** Of uploads under way, what is still to come. */
  #promised = 0

  constructor(dir: string) {
    this.#dir = dir
  }

  async start(): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
  }

  /** Whether so much more can be taken and the store of messages still has room. */
  async #hasRoom(bytes: number): Promise<boolean> {
    const { bavail, blocks, bsize } = await statfs(this.#dir)
    return bavail * bsize - this.#promised - bytes >= Math.min(roomBytesMin, blocks * bsize * roomShareMin)
  }

  /** Hands the file to `keep` and removes it afterwards, whatever happens. Throws a Refusal. */
  async receive<Result>(body: Readable, type: string, size: number, keep: (received: Received) => Promise<Result>): Promise<Result> {
    if (!(await this.#hasRoom(size))) throw refuse('unavailable', 'the server has no room for it now')
    const path = join(this.#dir, randomUUID())
    this.#promised += size
    try {
      const sha256 = await this.#write(body, path, type, size)
      return await keep({ path, sha256 })
    } finally {
      this.#promised -= size
      await rm(path, { force: true })
    }
  }

  async #write(body: Readable, path: string, type: string, size: number): Promise<string> {
    const file = await open(path, 'wx', 0o600)
    try {
      const hash = createHash('sha256')
      let head = Buffer.alloc(0)
      let bytes = 0
      let refusal: Refusal | undefined
      for await (const chunk of body as AsyncIterable<Buffer>) {
        bytes += chunk.length
        if (bytes > size) refusal ??= refuse('too_large', `more than the ${size} bytes came that media.upload was told of`)
        if (bytes > size + surplusBytesMax) break
        if (head.length < headBytes) {
          head = Buffer.concat([head, chunk.subarray(0, headBytes - head.length)])
          if (head.length === headBytes) refusal ??= refusalOf(type, head)
        }
        if (refusal !== undefined) continue
        hash.update(chunk)
        refusal = await file.appendFile(chunk).then(() => undefined, noRoom)
      }
      if (bytes < size) refusal ??= refuse('invalid', `${bytes} bytes came, media.upload was told of ${size}`)
      if (head.length < headBytes) refusal ??= refusalOf(type, head)
      refusal ??= await file.sync().then(() => undefined, noRoom)
      if (refusal !== undefined) throw refusal
      return hash.digest('hex')
    } finally {
      await file.close()
    }
  }
}

function refusalOf(type: string, head: Buffer): Refusal | undefined {
  const fault = faultOfHead(type, head)
  return fault === undefined ? undefined : new HttpRefusal(415, 'invalid', fault)
}

const noRoom = (error: Error): Refusal => refuse('unavailable', `it cannot be written: ${error.message}`)
