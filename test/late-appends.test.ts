/** Appends that were given up: each is looked for until long after, whatever else is given up meanwhile. */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { LateAppends } from '../broker/late-appends.js'
import { createLogger } from '../broker/logger.js'
import { eventually } from './helper/eventually.js'

t.test('one that is stored late is found though others were given up since', async (t) => {
  const stored = new Set<string>()
  const found = new Set<string>()
  const late = new LateAppends({
    log: { heads: async (convs) => convs.map((conv) => ({ head: stored.has(conv) ? 1 : 0, ts: 0 })) },
    logger: createLogger('silent'),
    found: (conv) => found.add(conv),
    looksMs: [5, 20, 1_000],
  })
  t.teardown(() => late.close())
  late.givenUp(new Set(['u/ann/bob']))
  for (let i = 0; i < 5; i++) {
    await delay(10)
    late.givenUp(new Set([`g/other${i}`]))
  }
  await delay(50)
  stored.add('u/ann/bob')
  await eventually(() => found.has('u/ann/bob'), { timeoutMs: 10_000 })
  await eventually(() => late.size === 0, { timeoutMs: 10_000 })
  t.same([...found], ['u/ann/bob'])
})
