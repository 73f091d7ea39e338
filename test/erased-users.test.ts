/** A node hears of an erased user by the bus, and without it from the store. */
import t from 'tap'
import { ErasedUsers } from '../broker/erased-users.js'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { eventually } from './helper/eventually.js'
import { calm, UnrulyBuses } from './helper/unruly-bus.js'

const logger = createLogger('silent')

t.test('told by the bus at once; found in the store when the bus lost it; forgotten after a while', async (t) => {
  const store = await createLmdbStore({ dir: t.testdir(), logger })
  t.teardown(() => store.close())
  const buses = new UnrulyBuses(calm)
  let now = 0
  const did: string[] = []
  const node = (name: string): ErasedUsers => {
    const erased = new ErasedUsers({
      store: { isShared: true, records: store.records },
      bus: buses.bus(name),
      logger,
      conversations: { changedOf: (user) => void did.push(`${name} judges ${user}`) },
      forget: { userHere: async (user) => void did.push(`${name} ends ${user}`) },
      checkMs: 5,
      now: () => now,
    })
    t.teardown(() => erased.close())
    return erased
  }
  const [a, b] = [node('a'), node('b')]
  await a.tell('alice')
  await eventually(() => did.length === 4)
  t.same(did.splice(0), ['a judges alice', 'a ends alice', 'b judges alice', 'b ends alice'])

  buses.mood = { ...calm, copies: () => 0 }
  await a.tell('bob')
  t.same(did.splice(0), ['a judges bob', 'a ends bob'])
  b.start()
  await eventually(() => did.includes('b ends bob'))
  now = 3_600_000
  await eventually(async () => {
    for await (const _ of store.records.entries('erased/')) return false
    return true
  })
  t.pass('the store does not keep it for ever')
})
