/** Everything that a store holds, as plain values in a fixed order: two stores are equal when their dumps are. */
import { ownPrefix } from '../../broker/migrate/kinds.js'
import type { Store } from '../../broker/store/store.js'
import { groupOf, isGroup } from '../../broker/topics.js'
import { listOf } from '../contract/store-under-test.js'

export async function dump({ log, directory, sessions, records, openTopics }: Store): Promise<object> {
  const conversations = []
  for await (const conv of log.conversations()) {
    const head = await log.head(conv)
    const entries = await log.read(conv, 1, head, head, Number.MAX_SAFE_INTEGER)
    const group = isGroup(conv) && {
      record: await directory.group(groupOf(conv)),
      members: (await directory.members(groupOf(conv))).sort((a, b) => (a.user < b.user ? -1 : 1)),
    }
    const sent = await log.findSentAll(entries.map(({ from, id }) => ({ conv, from, id })))
    conversations.push({ conv, head, entries, group, sent })
  }
  const users = []
  for (const record of await listOf(directory.users())) {
    const rows = (await directory.conversationsOf(record.user)).sort((a, b) => (a.conv < b.conv ? -1 : 1))
    users.push({ record, rows })
  }
  const devices = []
  for (const record of await listOf(sessions.all()))
    devices.push({ record, cursors: [...(await sessions.cursors(record.user, record.device))].sort() })
  return {
    conversations,
    users,
    devices,
    retransmits: await listOf(log.retransmits()),
    records: (await listOf(records.entries(''))).filter(({ key }) => !key.startsWith(ownPrefix)),
    openTopics: await listOf(openTopics.entries('')),
  }
}
