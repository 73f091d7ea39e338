/** What a page of the list of conversations, and the receipts of a group, cost a cluster: a few commands to MongoDB, however many there are. */
import t, { type Test } from 'tap'
import type { Bus } from '../broker/bus.js'
import { KeptLists } from '../broker/cluster/kept-lists.js'
import { Delivered } from '../broker/delivered.js'
import { createLogger } from '../broker/logger.js'
import type { PluginServer } from '../broker/plugin.js'
import { createMongodbStore } from '../broker/store/mongodb/mongodb-store.js'
import type { Store } from '../broker/store/store.js'
import { listMethod } from '../plugins/conversations/list.js'
import { Preferences } from '../plugins/conversations/preferences.js'
import { createReceipts } from '../plugins/receipts.js'
import { append, entry } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { newDatabase, startMongodb } from './helper/mongodb.js'

const logger = createLogger('silent')

/** A store, and the commands that it has answered; undefined where there is no server for it. */
async function open(t: Test): Promise<{ store: Store; commands: string[] } | undefined> {
  const url = await startMongodb(t)
  if (url === undefined) return undefined
  const commands: string[] = []
  const store = await createMongodbStore(newDatabase(url), { asMongodb: true, observeCommand: (name) => commands.push(name) })
  t.teardown(() => store.close())
  return { store, commands }
}

t.test('commands of a page', { timeout: 240_000 }, async (t) => {
  const opened = await open(t)
  if (opened === undefined) return
  const { store, commands } = opened
  const bus = { isUp: true, caughtUp: async () => undefined } as Bus
  const delivered = new Delivered({ records: store.records, logger, moved: () => undefined })
  const preferences = new Preferences(store, { sendEvent: () => undefined } as never)
  const lists = new KeptLists({ store, bus, hearsAll: () => true })
  const { handle } = listMethod({ store, lists, delivered, preferences })
  const page = async (
    limit: number,
    cursor?: string,
  ): Promise<{ rows: { last: { seq: number } }[]; next?: string; commands: string[] }> => {
    commands.length = 0
    const { conversations, next } = (await handle({ user: 'alice', device: '' }, { limit, ...(cursor && { cursor }) } as never)) as {
      conversations: never[]
      next?: string
    }
    return { rows: conversations, ...(next !== undefined && { next }), commands: [...commands] }
  }
  const talks = async (from: number, to: number): Promise<void> => {
    for (let at = from; at < to; at += 10) {
      const convs = Array.from({ length: 10 }, (_, i) => `u/alice/peer${at + i}`)
      await store.log.append(convs.map((conv) => append(conv, 0, [message(1)])))
    }
  }
  await talks(0, 20)
  const few = await page(5)
  await talks(20, 200)
  lists.doubted()
  const many = await page(50)
  t.equal(many.rows.length, 50)
  for (const { last } of many.rows) t.match(last, { seq: 1 })
  t.same(many.commands, few.commands, 'as many for fifty of 200 as for five of 20')
  t.ok(many.commands.length <= 8, `all rows are read: ${many.commands.join(' ')}`)
  const kept = await page(50)
  const further = await page(50, kept.next as string)
  t.equal(further.rows.length, 50)
  t.ok(kept.commands.length <= 6, `the rows are known: ${kept.commands.join(' ')}`)
  t.equal(further.commands.length, kept.commands.length, 'a further page')
})

t.test('commands of receipts', { timeout: 240_000 }, async (t) => {
  const opened = await open(t)
  if (opened === undefined) return
  const { store, commands } = opened
  const delivered = new Delivered({ records: store.records, logger, moved: () => undefined })
  const bus = { on: () => undefined } as unknown as Bus
  const { methods } = createReceipts({ store, delivered, bus, logger } as unknown as PluginServer)
  const users = Array.from({ length: 300 }, (_, i) => `user${i}`)
  const group = { kind: 'group' as const, record: { group: 'big', name: 'big', createdTs: 1, membersMax: 500 } }
  const members = users.map((user) => ({
    kind: 'member' as const,
    group: 'big',
    record: { user, role: 'member' as const, spans: [{ from: 1 }] },
  }))
  await store.log.append([append('g/big', 0, [message(1), message(2)], { effects: [group, ...members] })])
  await store.directory.setRead(users.slice(0, 10).map((user) => ({ user, conv: 'g/big', seq: 1 })))
  for (const user of users) delivered.acknowledged(user, 'g/big', 2)
  const places = users.map((user) => ({ user, conv: 'g/big' }))
  await eventually(async () => (await delivered.ofEach(places)).every((seq) => seq === 2))
  await delivered.flush()
  commands.length = 0
  const answer = await methods?.receipts?.handle({ user: 'user0', device: '' }, { conv: 'g/big' } as never)
  t.equal(commands.length, 2, commands.join(' '))
  const { receipts } = answer as { receipts: Record<string, [number, number]> }
  t.equal(Object.keys(receipts).length, 299)
  t.same(
    [receipts.user1, receipts.user299],
    [
      [2, 1],
      [2, 0],
    ],
  )
})

function message(seq: number) {
  const plain = entry(seq, 'alice', `m${seq}`)
  return { ...plain, payload: Buffer.from(JSON.stringify({ seq, ts: plain.ts, from: 'alice', id: plain.id, type: 'text', body: 'hi' })) }
}
