/**
 * Files that people send each other: uploaded by HTTP, then named in a message; and what is to be seen of them in the end. The bytes follow from
 * the name of the message, so nothing of them has to be kept.
 */
import { type Address, type ConversationId, isGroup, usersOf } from '../broker/topics.js'
import type { Api } from './api.js'
import type { Cast } from './cast.js'
import type { VirtualClient } from './client.js'
import { pick, type Random } from './random.js'
import type { Recorder } from './recorder.js'

const bytesMax = 20_000
/** Objects that are looked at in the end. */
const looksMax = 150
const mime = 'text/plain'

function bytesOf(name: string, size: number): Buffer {
  return Buffer.alloc(size, `${name} `)
}

export interface NamedFile {
  conv: ConversationId
  seq: number
  from: string
  id: string
  url: string
  size: number
}

/** The file that a message names; undefined: it is none. */
export function fileIn(conv: ConversationId, message: Record<string, unknown>): NamedFile | undefined {
  const { seq, from, id, type, body } = message
  if (type !== 'file') return undefined
  const { url, size } = body as { url: string; size: number }
  return { conv, seq: seq as number, from: from as string, id: id as string, url, size }
}

export class Files {
  #names = 0
  readonly #underWay = new Set<Promise<void>>()

  constructor(
    readonly api: Api,
    readonly cast: Cast,
    readonly clients: readonly VirtualClient[],
  ) {}

  /** Somebody uploads a file and sends it to a friend, or to a small group. What the server cannot take now is given up. */
  share(random: Random): string {
    const outsiders = new Set(this.cast.outsiders)
    const client = pick(
      random,
      this.clients.filter(({ options }) => !outsiders.has(options.user)),
    )
    const { user } = client.options
    const own = this.cast.groups.filter(({ members, isRestless }) => !isRestless && members.includes(user))
    const address: Address =
      own.length > 0 && random(2) === 0 ? `g/${pick(random, own).group}` : `u/${pick(random, this.cast.friendsOf(user))}`
    const name = `f${(++this.#names).toString(36)}`
    const upload = this.#upload(client, address, name, 1 + random(bytesMax))
    this.#underWay.add(upload)
    void upload.finally(() => this.#underWay.delete(upload))
    return `${user} sends a file to ${address}`
  }

  /** Resolves when no upload is under way. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay)
  }

  async #upload(client: VirtualClient, address: Address, name: string, size: number): Promise<void> {
    const { user } = client.options
    const answer = await this.api.call(user, 'media.upload', { mime, size, name: `${name}.txt` })
    const { upload_url, url } = (answer?.status === 200 ? answer.body : {}) as { upload_url?: string; url?: string }
    if (upload_url === undefined || url === undefined) return
    if ((await this.api.put(upload_url, bytesOf(name, size))) !== 201) return
    const body = { url, mime, size, name: `${name}.txt` }
    client.offer(address, JSON.stringify({ id: name, type: 'file', body }), { id: name, name, bytes: 0, file: url })
  }
}

/** Whoever received a file looks at it, and somebody to whom it was not sent. */
export async function lookAt(
  world: { api: Api; recorder: Recorder; cast: Cast },
  files: readonly NamedFile[],
  inParallel: (jobs: readonly (() => Promise<void>)[]) => Promise<void>,
): Promise<void> {
  const { api, recorder, cast } = world
  const look = async (user: string, { conv, seq, id, url, size }: NamedFile): Promise<void> => {
    const answer = await api.get(user, url)
    if (answer === undefined) throw new Error(`the file at ${url} for ${user} was answered by nothing`)
    const isWhole = answer.bytes.equals(bytesOf(id, size))
    recorder.write({ event: 'looked', user, conv, seq, status: answer.status, isWhole })
  }
  const jobs = files.slice(0, looksMax).flatMap((file) => {
    const { conv, from } = file
    const group = cast.groups.find(({ group }) => `g/${group}` === conv)
    const readers = isGroup(conv) ? (group?.members ?? []) : usersOf(conv)
    const reader = readers.find((user) => user !== from)
    return [reader, cast.outsiders[0]].flatMap((user) => (user === undefined ? [] : [() => look(user, file)]))
  })
  await inParallel(jobs)
}
