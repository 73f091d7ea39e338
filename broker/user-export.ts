/**
 * Everything that is kept of a user, as lines of JSON, read piece by piece while they are taken: himself, his devices and conversations, what
 * plugins keep of him, and every message that he sent. The last line, `end`, says how many there were: without it the export is cut off.
 */
import { Readable } from 'node:stream'
import type { Delivered } from './delivered.js'
import { refuse } from './errors.js'
import { isKnown } from './known-user.js'
import type { PluginHost } from './plugin-host.js'
import type { Store } from './store/store.js'
import { addressOf, type ConversationId } from './topics.js'

export interface ExportWorld {
  store: Store
  plugins: PluginHost
  delivered: Delivered
}

type Line = { kind: string; [field: string]: unknown }

const exportsMax = 4
const pageMax = 200
const pageBytesMax = 256 * 1024

/** Throws `not_found` for whom there is not, `busy` when too many are read already. */
export function createUserExport(world: ExportWorld): (user: string) => Promise<Readable> {
  let running = 0
  return async (user) => {
    if (!(await isKnown(world.store.directory, user))) throw refuse('not_found', `there is no user ${user}`)
    if (running >= exportsMax) throw refuse('busy', `${exportsMax} exports are under way: ask again when one is over`)
    running++
    const lines = Readable.from(textOf(linesOf(world, user)))
    lines.once('close', () => running--)
    return lines
  }
}

async function* textOf(lines: AsyncIterable<Line>): AsyncGenerator<string> {
  let count = 0
  for await (const line of lines) {
    count++
    yield `${JSON.stringify(line)}\n`
  }
  yield `${JSON.stringify({ kind: 'end', lines: count })}\n`
}

async function* linesOf({ store, plugins, delivered }: ExportWorld, user: string): AsyncGenerator<Line> {
  const record = await store.directory.user(user)
  yield { kind: 'user', user, created_ts: record?.createdTs }
  for (const { device, createdTs, seenTs } of await store.sessions.list(user))
    yield { kind: 'device', device, created_ts: createdTs, seen_ts: seenTs }
  yield* plugins.exportUser(user)
  const rows = await store.directory.conversationsOf(user)
  for (const { conv, read, spans } of rows) {
    yield { kind: 'conversation', conv: addressOf(conv, user), read, delivered: await delivered.of(user, conv), ...(spans && { spans }) }
  }
  for (const { conv } of rows) yield* messagesOf(store, conv, user)
}

async function* messagesOf({ log }: Store, conv: ConversationId, user: string): AsyncGenerator<Line> {
  const head = await log.head(conv)
  for (let next = 1; next <= head; ) {
    const entries = await log.read(conv, next, head, pageMax, pageBytesMax)
    if (entries.length === 0) return
    for (const { seq, from, payload } of entries) {
      next = seq + 1
      if (from === user) yield { kind: 'message', conv: addressOf(conv, user), message: JSON.parse(payload.toString()) as object }
    }
  }
}
