/**
 * Compares a copy with its source, all of it and from the stores themselves: conversations by head, digest, group and members; users,
 * sessions with cursors, records and application topics by content; each user's rows with read positions; what may be sent again.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ConversationRow, Store } from '../store/store.js'
import type { ConversationId } from '../topics.js'
import { digestOf, groupAsIs, placesOf, type Retransmits } from './conversations.js'
import { kinds } from './kinds.js'
import { pairs } from './pairs.js'

export interface Comparison {
  /** What there is, by kind, for people. */
  counts: Map<string, number>
  /** The first of them. */
  differences: string[]
  /** How many there are. */
  differing: number
}

const differencesMax = 20
const conversationsAtOnce = 64

export async function compareStores(
  source: Store,
  target: Store,
  retransmits: Retransmits,
  progress: (done: string) => void,
): Promise<Comparison> {
  const found: Comparison = { counts: new Map(), differences: [], differing: 0 }
  const differs = (what: string): void => {
    found.differing++
    if (found.differences.length < differencesMax) found.differences.push(what)
  }
  await compareConversations(source, target, found.counts, differs, progress)
  for (const kind of kinds) found.counts.set(kind.name, await kind.compare(source, target, differs))
  await compareRows(source, target, differs)
  for (const one of [...retransmits.values()].flat()) {
    const copy = await target.log.findRetransmit(one.session, one.packetId)
    if (copy?.conv !== one.conv || copy.seq !== one.seq || copy.digest !== one.digest)
      differs(`what ${one.session} may send again: packet ${one.packetId}`)
  }
  return found
}

async function compareConversations(
  source: Store,
  target: Store,
  counts: Map<string, number>,
  differs: (what: string) => void,
  progress: (done: string) => void,
): Promise<void> {
  let [conversations, messages, groups] = [0, 0, 0]
  let page: ConversationId[] = []
  const comparePage = async (): Promise<void> => {
    const places = await placesOf(source, page)
    const copies = await placesOf(target, page)
    await Promise.all(
      places.map(async ({ conv, head }, at) => {
        conversations++
        messages += head
        if (head !== copies[at]?.head) return differs(`${conv}: ${head} messages, ${copies[at]?.head} copied`)
        if ((await digestOf(source, conv, head)) !== (await digestOf(target, conv, head))) differs(`${conv}: the messages`)
        const group = await groupAsIs(source, conv)
        if (group !== undefined) groups++
        if (!isDeepStrictEqual(group, await groupAsIs(target, conv))) differs(`${conv}: the group or its members`)
      }),
    )
    page = []
    progress(`compared ${conversations} conversations with ${messages} messages`)
  }
  for await (const { key } of pairs(source.log.conversations(), target.log.conversations(), (conv) => conv)) {
    page.push(key)
    if (page.length >= conversationsAtOnce) await comparePage()
  }
  if (page.length > 0) await comparePage()
  counts.set('conversations', conversations).set('messages', messages).set('groups', groups)
}

/** Memberships, read positions and last sends, as each user sees them. */
async function compareRows(source: Store, target: Store, differs: (what: string) => void): Promise<void> {
  for await (const { user } of source.directory.users()) {
    const rows = await rowsOf(source, user)
    if (!isDeepStrictEqual(rows, await rowsOf(target, user))) differs(`the conversations of ${user}`)
  }
}

const rowsOf = async ({ directory }: Store, user: string): Promise<ConversationRow[]> =>
  (await directory.conversationsOf(user)).sort((a, b) => (a.conv < b.conv ? -1 : 1))
