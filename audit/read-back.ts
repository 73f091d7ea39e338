/**
 * Reads the logs back after healing, as users: each direct conversation by both, each group by its owner and, for
 * the present members, the last page; churners and outsiders try everything in restless groups. By `history`, and for some users
 * all over again by `sync`. What is read goes into the history; what somebody may read is the checker's business.
 */
import { type Address, addressOf, type ConversationId, conversationOf, groupConversation, isGroup, peerOf } from '../broker/topics.js'
import type { Api } from './api.js'
import type { Cast } from './cast.js'
import type { ListRow, Run } from './history.js'
import { fileIn, lookAt, type NamedFile } from './media.js'
import { joinRun, type Recorder } from './recorder.js'

export interface ReadWorld {
  api: Api
  recorder: Recorder
  /** Messages that name a file are put into it, by place. */
  files?: Map<string, NamedFile>
}

type Message = { seq: number } & Record<string, unknown>

const pageMax = 200
const parallel = 8
const fullSyncs = 40
/** Behind the end, what others look at. */
const tail = 20
const pagesMax = 10_000

/** Resolves with what a server could not do, or ''; throws when it does not answer. */
export async function readBack(stage: ReadWorld & { cast: Cast }, done: (share: number) => void): Promise<string> {
  const files = new Map<string, NamedFile>()
  const world = { ...stage, files }
  const { cast } = world
  const complaints: string[] = []
  const jobs: (() => Promise<void>)[] = []
  for (const [user, address] of directs(cast)) jobs.push(() => readHistory(world, user, address, 0))
  for (const { group, owner, members, isRestless } of cast.groups) {
    const address: Address = groupConversation(group)
    jobs.push(() => readHistory(world, owner, address, 0))
    const curious = new Set(isRestless ? [...cast.churners, ...cast.outsiders] : cast.outsiders)
    for (const user of curious) jobs.push(() => readHistory(world, user, address, 0))
    for (const user of members) if (user !== owner && !curious.has(user)) jobs.push(() => readHistory(world, user, address, -tail))
  }
  const everything = new Set([...cast.outsiders, ...cast.churners.slice(0, fullSyncs), ...cast.users.slice(0, fullSyncs)])
  for (const user of everything) jobs.push(async () => void complaints.push(...(await readSync(world, user))))
  for (const user of cast.users) jobs.push(() => readList(world, user))
  await inParallel(jobs, done)
  await lookAt(world, [...files.values()], (looks) => inParallel(looks, done))
  return complaints[0] ?? ''
}

function directs(cast: Cast): [string, Address][] {
  return cast.users.flatMap((user) => cast.friendsOf(user).map((friend): [string, Address] => [user, `u/${friend}`]))
}

async function inParallel(jobs: readonly (() => Promise<void>)[], done: (share: number) => void): Promise<void> {
  let next = 0
  const work = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      await job()
      done(next / jobs.length)
    }
  }
  await Promise.all(Array.from({ length: parallel }, work))
}

/** What a user is shown of the end of a conversation in the middle of a run; nothing when the server does not answer. */
export async function peek({ api, recorder }: ReadWorld, user: string, address: Address): Promise<void> {
  const answer = await api.call(user, 'history', { conv: address, limit: tail })
  if (answer?.status !== 200) return
  const conv = conversationOf(address, user) ?? address
  const { messages, head } = answer.body as { messages: Message[]; head: number }
  const runs: Run[] = []
  for (const message of messages) note(recorder, conv, message, user, runs)
  recorder.write({ event: 'read', user, conv, by: 'peek', from: messages[0]?.seq ?? head + 1, to: head, runs })
}

/** Nothing is recorded when the server does not let the user; a negative `after` counts from the end. */
async function readHistory({ api, recorder, files }: ReadWorld, user: string, address: Address, after: number): Promise<void> {
  const conv = conversationOf(address, user) ?? address
  const runs: Run[] = []
  let from = after + 1
  let [at, head] = [after, 0]
  for (let pages = 0; pages < pagesMax; pages++) {
    const params = at < 0 ? { conv: address, limit: -at } : { conv: address, after: at, limit: pageMax }
    const answer = await api.callPatiently(user, 'history', params)
    if (answer?.status === 403 || answer?.status === 404) return
    if (answer?.status !== 200) throw new Error(`history of ${address} for ${user} was answered by ${JSON.stringify(answer ?? 'nothing')}`)
    const { messages, head: last } = answer.body as { messages: Message[]; head: number }
    head = last
    for (const message of messages) {
      note(recorder, conv, message, user, runs)
      const file = fileIn(conv, message)
      if (file !== undefined) files?.set(`${conv} ${file.seq}`, file)
    }
    if (at < 0) from = messages[0]?.seq ?? 1
    if (messages.length === 0 || (messages.at(-1)?.seq ?? 0) >= head) break
    at = messages.at(-1)?.seq ?? 0
  }
  recorder.write({ event: 'read', user, conv, by: 'history', from, to: head, runs })
}

function note(recorder: Recorder, conv: ConversationId, message: Message, user: string, runs: Run[]): void {
  recorder.message(conv, message.seq, Buffer.from(JSON.stringify(message)), user)
  joinRun(runs, message.seq)
}

/** The conversation list; a server without one has nothing to be judged. */
async function readList({ api, recorder }: ReadWorld, user: string): Promise<void> {
  const rows: ListRow[] = []
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const answer = await api.callPatiently(user, 'conversations', { limit: pageMax, ...(cursor === undefined ? {} : { cursor }) })
    if (answer?.status === 404) return
    if (answer?.status !== 200) throw new Error(`conversations of ${user} was answered by ${JSON.stringify(answer ?? 'nothing')}`)
    const page = answer.body as { conversations: (Omit<ListRow, 'acked'> & { conv: Address })[]; next?: string }
    for (const { conv: address, head, unread, delivered, read } of page.conversations) {
      const conv = conversationOf(address, user) ?? address
      const acked = isGroup(conv) ? 0 : recorder.acknowledgedBy(peerOf(conv, user), conv)
      rows.push({ conv, head, unread, delivered, read, acked })
    }
    cursor = page.next
  }
  recorder.write({ event: 'list', user, rows })
}

/** What it shows is recorded in any case; returns what is wrong with it beside. */
async function readSync({ api, recorder }: ReadWorld, user: string): Promise<string[]> {
  const cursors: Record<Address, number> = {}
  const found = new Map<ConversationId, Run[]>()
  let heads: Record<Address, number> = {}
  let isStuck = false
  for (let more = true; more && !isStuck; ) {
    const page = (await api.rpc(user, 'sync', { cursors })) as {
      messages: ({ conv: Address } & Message)[]
      heads: Record<Address, number>
      more: boolean
    }
    for (const { conv: address, ...message } of page.messages) {
      const conv = conversationOf(address, user) ?? address
      const runs = found.get(conv) ?? []
      found.set(conv, runs)
      note(recorder, conv, message as Message, user, runs)
      cursors[address] = (message as Message).seq
    }
    isStuck = page.more && page.messages.length === 0
    heads = page.heads
    more = page.more
  }
  // A conversation that is only named: its messages are missing, or it should not be.
  for (const address of Object.keys(heads) as Address[]) {
    const conv = conversationOf(address, user) ?? address
    if (!found.has(conv)) found.set(conv, [])
  }
  for (const [conv, runs] of found) {
    const head = heads[addressOf(conv, user)] ?? runs.at(-1)?.[1] ?? 0
    recorder.write({ event: 'read', user, conv, by: 'sync', from: 1, to: head, runs })
  }
  return isStuck ? [`sync of ${user} says that there is more, and gives nothing`] : []
}
