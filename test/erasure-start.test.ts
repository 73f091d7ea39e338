/** Erasures that were not finished when the server ended, and a store that goes away while it starts. */
import t from 'tap'
import { Erasure, type ErasureWorld } from '../broker/erasure.js'
import { createLogger } from '../broker/logger.js'
import { StoreUnavailable } from '../broker/store/store.js'
import { eventually } from './helper/eventually.js'

t.test('a store that cannot be read at the start ends nothing: the erasures are taken up when it is back', async (t) => {
  let reads = 0
  const marked: string[] = []
  const records = {
    async *entries() {
      if (reads++ === 0) throw new StoreUnavailable('it is away')
      yield { key: 'erasures/bob', value: Buffer.from('{}') }
    },
  }
  const directory = {
    user: async (user: string) => {
      marked.push(user)
      throw new StoreUnavailable('it is away again')
    },
  }
  const erasure = new Erasure({ store: { records, directory }, logger: createLogger('silent'), retryMs: 10 } as unknown as ErasureWorld)
  t.teardown(() => erasure.close())
  await erasure.start()
  t.same(marked, [])
  await eventually(() => marked.includes('bob'))
})
