/** What a page of the list of conversations costs: the store is asked as often for fifty rows as for five, whatever was said last in them. */
import t from 'tap'
import { Delivered } from '../broker/delivered.js'
import { StoredLists } from '../broker/lists.js'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import type { Store } from '../broker/store/store.js'
import { listMethod } from '../plugins/conversations/list.js'
import { Preferences } from '../plugins/conversations/preferences.js'
import { append, entry } from './contract/entries.js'

const logger = createLogger('silent')

/** Calls of `part`, by name, are put into `asked`. */
function counted<Part extends object>(part: Part, asked: string[]): Part {
  return new Proxy(part, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name, target)
      if (typeof found !== 'function') return found
      return (...args: unknown[]) => {
        asked.push(String(name))
        return (found as (...given: unknown[]) => unknown).apply(target, args)
      }
    },
  })
}

t.test('the store is asked a few times for a page, however long it is', async (t) => {
  const real = await createLmdbStore({ dir: t.testdir(), logger })
  t.teardown(() => real.close())
  for (let at = 0; at < 60; at++) {
    const name = `peer-${String(at).padStart(2, '0')}`
    const [conv, peer] = (at % 2 === 0 ? [`u/alice/${name}`, name] : [`g/${name}`, 'bob']) as [string, string]
    const effects =
      at % 2 === 0
        ? []
        : [
            { kind: 'group' as const, record: { group: name, name, createdTs: 1, membersMax: 5 } },
            { kind: 'member' as const, group: name, record: { user: 'alice', role: 'member' as const, spans: [{ from: 1 }] } },
          ]
    await real.log.append([append(conv, 0, [message(1, 'alice', { body: `hello ${at}` }), reaction(2, peer)], { effects })])
  }
  const asked: string[] = []
  const store: Store = {
    ...real,
    isShared: false,
    log: counted(real.log, asked),
    directory: counted(real.directory, asked),
    records: counted(real.records, asked),
  }
  const delivered = new Delivered({ records: store.records, logger, moved: () => undefined })
  const { handle } = listMethod({
    store,
    lists: new StoredLists(store),
    delivered,
    preferences: new Preferences(store, { sendEvent: () => undefined } as never),
  })
  const page = async (limit: number): Promise<{ rows: { conv: string; last: { seq: number; reactions?: object } }[]; asked: string[] }> => {
    asked.length = 0
    const { conversations } = (await handle({ user: 'alice', device: '' }, { limit } as never)) as { conversations: never[] }
    return { rows: conversations, asked: [...asked].sort() }
  }
  const [five, fifty] = [await page(5), await page(50)]
  t.equal(fifty.rows.length, 50)
  for (const { conv, last } of fifty.rows) t.match(last, { seq: 1, reactions: { '👍': [String] } }, conv)
  t.same(fifty.asked, five.asked)
  t.ok(fifty.asked.length <= 10, fifty.asked.join(' '))
})

function message(seq: number, from: string, said: object) {
  const plain = entry(seq, from, `m${seq}`)
  return { ...plain, payload: Buffer.from(JSON.stringify({ seq, ts: plain.ts, from, id: plain.id, type: 'text', ...said })) }
}

const reaction = (seq: number, from: string) => message(seq, from, { type: 'reaction', body: { seq: 1, emoji: '👍', on: true } })
