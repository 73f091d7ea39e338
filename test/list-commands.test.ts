/** What a page of the list of conversations costs a cluster: a few commands to MongoDB, however many conversations the user has and the page shows. */
import t from 'tap'
import type { Bus } from '../broker/bus.js'
import { KeptLists } from '../broker/cluster/kept-lists.js'
import { Delivered } from '../broker/delivered.js'
import { createLogger } from '../broker/logger.js'
import { createMongodbStore } from '../broker/store/mongodb/mongodb-store.js'
import { listMethod } from '../plugins/conversations/list.js'
import { Preferences } from '../plugins/conversations/preferences.js'
import { append, entry } from './contract/entries.js'
import { newDatabase, startMongodb } from './helper/mongodb.js'

const logger = createLogger('silent')

t.test('commands of a page', { timeout: 240_000 }, async (t) => {
  const url = await startMongodb(t)
  if (url === undefined) return
  let commands: string[] = []
  const store = await createMongodbStore(newDatabase(url), { asMongodb: true, observeCommand: (name) => commands.push(name) })
  t.teardown(() => store.close())
  const bus = { isUp: true, caughtUp: async () => undefined } as Bus
  const delivered = new Delivered({ records: store.records, logger, moved: () => undefined })
  const preferences = new Preferences(store, { sendEvent: () => undefined } as never)
  const lists = new KeptLists({ store, bus, hearsAll: () => true })
  const { handle } = listMethod({ store, lists, delivered, preferences })
  const page = async (
    limit: number,
    cursor?: string,
  ): Promise<{ rows: { last: { seq: number } }[]; next?: string; commands: string[] }> => {
    commands = []
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

function message(seq: number) {
  const plain = entry(seq, 'alice', `m${seq}`)
  return { ...plain, payload: Buffer.from(JSON.stringify({ seq, ts: plain.ts, from: 'alice', id: plain.id, type: 'text', body: 'hi' })) }
}
