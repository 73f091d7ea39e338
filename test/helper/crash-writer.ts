/**
 * A process that appends for ever to the embedded store in argv[2], from argv[3] as seed, and prints `conversation seq`
 * for each entry after its append has resolved. It is made to be killed. Every entry of a group brings a member `m{seq}`, and every
 * append the group's name `as of {seq}` and a member `last` since its seq; every entry is a send without id of `{conversation}/phone`, with
 * its seq as packet id and as digest.
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
    const effects = conv.startsWith('g/') ? effectsOf(conv.slice(2), head, head + entries.length) : []
    const retransmits = entries.map(({ seq }) => ({
      session: `${conv}/phone`,
      packetId: seq,
      digest: String(seq),
      epoch: 1,
      order: seq,
      seq,
    }))
    return append(conv, head, entries, { effects, retransmits })
  })
  const conflicts = await log.append(batch)
  if (conflicts.length > 0) throw new Error(`unexpected conflict in ${conflicts}`)
  for (const [i, { entries }] of batch.entries()) {
    const { conv, at } = chosen[i] as { conv: string; at: number }
    heads[at] = (heads[at] ?? 0) + entries.length
    writeSync(1, `${conv} ${heads[at]}\n`)
  }
}

function effectsOf(group: string, head: number, last: number): Effect[] {
  const effects: Effect[] = []
  for (let seq = head + 1; seq <= last; seq++) effects.push(memberOf(group, `m${seq}`, seq))
  effects.push({ kind: 'group', record: { group, name: `as of ${last}`, createdTs: 1, membersMax: last } })
  effects.push(memberOf(group, 'last', last))
  return effects
}

function memberOf(group: string, user: string, seq: number): Effect {
  return { kind: 'member', group, record: { user, role: 'member', spans: [{ from: seq }] } }
}
