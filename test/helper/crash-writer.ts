/**
 * A process that appends for ever to the embedded store in argv[2], from argv[3] as seed, and prints `conversation seq`
 * for each entry after its append has resolved. It is made to be killed. Every entry of a group brings a member `m{seq}`.
 */
import { writeSync } from 'node:fs'
import { createLmdbStore } from '../../broker/store/lmdb/lmdb-store.js'
import type { Effect } from '../../broker/store/store.js'
import { append, createRandom, entry } from '../contract/entries.js'

const [, , dir = '', seed = '1'] = process.argv
const random = createRandom(Number(seed))
const convs = ['u/alice/bob', 'u/alice/carol', 'u/bob/carol', 'g/team', 'g/all']

const { log } = await createLmdbStore({ dir, generationCostMax: 150 })
const heads = (await log.heads(convs)).map(({ head }) => head)
for (;;) {
  const chosen = convs.map((conv, at) => ({ conv, at })).filter(() => random(2) === 0)
  const batch = chosen.map(({ conv, at }) => {
    const head = heads[at] ?? 0
    const entries = Array.from({ length: 1 + random(20) }, (_, i) => ({
      ...entry(head + 1 + i, random(2) === 0 ? 'alice' : 'bob'),
      payload: Buffer.alloc(random(2_000), `${head + 1 + i}.`),
    }))
    const effects: Effect[] = conv.startsWith('g/') ? entries.map(({ seq }) => memberOf(conv.slice(2), seq)) : []
    return append(conv, head, entries, { effects })
  })
  const conflicts = await log.append(batch)
  if (conflicts.length > 0) throw new Error(`unexpected conflict in ${conflicts}`)
  for (const [i, { entries }] of batch.entries()) {
    const { conv, at } = chosen[i] as { conv: string; at: number }
    heads[at] = (heads[at] ?? 0) + entries.length
    writeSync(1, `${conv} ${heads[at]}\n`)
  }
}

function memberOf(group: string, seq: number): Effect {
  return { kind: 'member', group, record: { user: `m${seq}`, role: 'member', spans: [{ from: seq }] } }
}
