/** What the server does before anybody asks: for some users, not for all, never where it costs others something, and never at the price of the start. */
import t from 'tap'
import { createLogger } from '../broker/logger.js'
import type { Store } from '../broker/store/store.js'
import { warmUp } from '../broker/warm-up.js'

const logger = createLogger('silent')

/** Each of the users has so many conversations. */
function storeOf(users: number, conversations: number, isShared = false): Store {
  const directory = {
    async *users() {
      for (let at = 0; at < users; at++) yield { user: `user-${at}`, createdTs: 1 }
    },
    conversationsOf: async () => Array.from({ length: conversations }, (_, at) => ({ conv: `u/a/b${at}`, read: 0, sent: 0 })),
  }
  return { isShared, directory } as unknown as Store
}

async function usersDone(store: Store, use: (user: string) => Promise<unknown> = async () => undefined): Promise<string[]> {
  const done: string[] = []
  await warmUp({ store, logger }, (user) => {
    done.push(user)
    return use(user)
  })
  return done
}

t.test('it is for some users only', async (t) => {
  t.same(await usersDone(storeOf(3, 2)), ['user-0', 'user-1', 'user-2'])
  t.equal((await usersDone(storeOf(10, 2_000))).length, 3, 'until it was enough')
  t.ok((await usersDone(storeOf(10_000, 0))).length <= 300, 'also where they have nothing')
})

t.test('a store that others use too is left alone', async (t) => {
  t.same(await usersDone(storeOf(3, 2, true)), [])
})

t.test('what fails is given up, and the server starts', async (t) => {
  const done = await usersDone(storeOf(3, 2), () => Promise.reject(new Error('no such page')))
  t.same(done, ['user-0'])
})
