/** The cluster's store: the contract suites, several nodes that write at once, and a schema that is not known. */
import { MongoClient } from 'mongodb'
import t from 'tap'
import { createMongodbStore, type MongodbStoreOptions } from '../broker/store/mongodb/mongodb-store.js'
import type { Store } from '../broker/store/store.js'
import { testDirectory } from './contract/directory.js'
import { append, entry } from './contract/entries.js'
import { testKeyValueStore } from './contract/key-value-store.js'
import { testMessageLog, testReadEach } from './contract/message-log.js'
import { testSessionStore } from './contract/session-store.js'
import type { OpenStore, StoreUnderTest } from './contract/store-under-test.js'
import { newDatabase, startMongodb } from './helper/mongodb.js'

t.test('on a MongoDB-compatible server', { timeout: 580_000 }, async (t) => {
  const url = await startMongodb(t)
  if (url === undefined) return

  const openWith =
    (options: MongodbStoreOptions): OpenStore =>
    async (t) => {
      const database = newDatabase(url)
      const tested: StoreUnderTest = {
        store: await createMongodbStore(database, options),
        async reopen() {
          await tested.store.close()
          tested.store = await createMongodbStore(database, options)
          return tested.store
        },
      }
      t.teardown(() => tested.store.close())
      return tested
    }
  const open = openWith({})
  testMessageLog(t, open)
  // Where FerretDB stands in, what MongodbServer spares it would never be run.
  t.test('with the commands that MongoDB gets', async (t) => testReadEach(t, openWith({ asMongodb: true })))
  testDirectory(t, open)
  testSessionStore(t, open)
  testKeyValueStore(t, open)

  t.test(
    'eight writers on three nodes write into one group: no gap, nothing twice, in the order of each, and all come through',
    async (t) => {
      const database = newDatabase(url)
      const nodes: Store[] = []
      for (let i = 0; i < 3; i++) nodes.push(await createMongodbStore(database))
      t.teardown(() => Promise.all(nodes.map((node) => node.close())))
      const each = 20
      const write = async (writer: number): Promise<void> => {
        const { log } = nodes[writer % nodes.length] as Store
        for (let n = 1; n <= each; ) {
          const head = await log.head('g/team')
          if ((await log.append([append('g/team', head, [entry(head + 1, `writer${writer}`, `m${n}`)])])).length === 0) n++
        }
      }
      await Promise.all(Array.from({ length: 8 }, (_, writer) => write(writer)))
      const [node] = nodes as [Store]
      const all = await node.log.read('g/team', 1, 1_000, 1_000)
      t.same(
        all.map(({ seq }) => seq),
        Array.from({ length: 8 * each }, (_, i) => i + 1),
      )
      for (let writer = 0; writer < 8; writer++) {
        t.same(
          all.filter(({ from }) => from === `writer${writer}`).map(({ id }) => id),
          Array.from({ length: each }, (_, i) => `m${i + 1}`),
        )
      }
    },
  )

  t.test('an append to more conversations than FerretDB bears in one command', async (t) => {
    const store = await createMongodbStore(newDatabase(url))
    t.teardown(() => store.close())
    const convs = Array.from({ length: 250 }, (_, i) => `u/alice/bob${i}`)
    t.same(await store.log.append(convs.map((conv) => append(conv, 0, [entry(1, 'alice')]))), [])
    t.same(
      (await store.log.heads(convs)).filter(({ head }) => head !== 1),
      [],
    )
  })

  t.test('connects of one device at the same moment take different epochs, on whatever nodes', async (t) => {
    const database = newDatabase(url)
    const nodes = [await createMongodbStore(database), await createMongodbStore(database), await createMongodbStore(database)]
    t.teardown(() => Promise.all(nodes.map((node) => node.close())))
    let equal = 0
    for (let race = 0; race < 100; race++) {
      const opened = await Promise.all(nodes.map(({ sessions }) => sessions.open('alice', `d${race % 5}`)))
      equal += opened.length - new Set(opened.map(({ epoch }) => epoch)).size
    }
    t.equal(equal, 0)
  })

  t.test(
    'an id that another node has stored is not new, whether that was heard or not, nor when it is heard after it was said',
    async (t) => {
      for (const heard of ['never', 'before', 'between']) {
        const database = newDatabase(url)
        const [{ log: mine }, { log: other }] = [await createMongodbStore(database), await createMongodbStore(database)].map((store) => {
          t.teardown(() => store.close())
          return store
        }) as [Store, Store]
        const conv = 'u/alice/bob'
        t.equal(await mine.findSent(conv, 'alice', 'm1'), undefined)
        t.same(await mine.append([append(conv, 0, [entry(1, 'alice', 'm1')])]), [])
        const second = entry(2, 'alice', 'm2')
        t.same(await other.append([append(conv, 1, [second])]), [])
        if (heard === 'before') mine.heard?.({ conv, entry: second, isEnd: true })
        const found = await mine.findSent(conv, 'alice', 'm2')
        if (heard === 'between') mine.heard?.({ conv, entry: second, isEnd: true })
        if (found === undefined)
          t.same(await mine.append([append(conv, 2, [entry(3, 'alice', 'm2')])]), [conv], `heard ${heard}: it is refused`)
        else t.equal(heard, 'before')
        t.equal(await mine.findSent(conv, 'alice', 'm2'), 2, `heard ${heard}: it is found`)
        t.equal(await mine.findSent(conv, 'alice', 'm3'), undefined)
        t.same(await mine.append([append(conv, 2, [entry(3, 'alice', 'm3')])]), [], `heard ${heard}: what is new is stored`)
      }
    },
  )

  t.test('what a node wrote before it died is applied by who comes next', async (t) => {
    const database = newDatabase(url)
    const store = await createMongodbStore(database)
    t.teardown(() => store.close())
    await store.log.append([append('u/alice/bob', 0, [entry(1, 'alice')])])
    const client = new MongoClient(database)
    t.teardown(() => client.close())
    const db = client.db()
    await db.collection('conversations').deleteMany({})
    await db.collection('members').deleteMany({})
    const other = await createMongodbStore(database)
    t.teardown(() => other.close())
    t.same(await other.log.append([append('u/alice/bob', 0, [entry(1, 'bob', 'late')])]), ['u/alice/bob'])
    t.equal(await other.log.head('u/alice/bob'), 1)
    t.same(await other.directory.conversationsOf('alice'), [{ conv: 'u/alice/bob', read: 0, sent: 1 }])
  })

  t.test('a URL that asks for more connections than a node has is taken', async (t) => {
    const database = new URL(newDatabase(url))
    database.searchParams.set('minPoolSize', '64')
    const store = await createMongodbStore(database.href)
    t.teardown(() => store.close())
    t.equal(await store.log.head('u/alice/bob'), 0)
  })

  t.test('a database of another schema is refused', async (t) => {
    const database = newDatabase(url)
    await (await createMongodbStore(database)).close()
    const client = new MongoClient(database)
    t.teardown(() => client.close())
    await client
      .db()
      .collection<{ _id: string }>('meta')
      .updateOne({ _id: 'schema' }, { $set: { version: 99 } })
    await t.rejects(createMongodbStore(database), { message: /has schema 99, this version of Parley knows schema 2/ })
  })
})
