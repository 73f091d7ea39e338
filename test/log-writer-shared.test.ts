/**
 * Log writers of several nodes on one store: what one hears of the others keeps it from losing, a refusal is never older than its operation,
 * appends of different conversations do not wait for each other, and with late, lost and failing everything each message is stored once.
 */
import t from 'tap'
import { isMember } from '../broker/conversation.js'
import { refuse } from '../broker/errors.js'
import type { Operation } from '../broker/operation.js'
import type { ConversationAppend, Effect, LogEntry } from '../broker/store/store.js'
import { StoreUnavailable } from '../broker/store/store.js'
import { createRandom, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { createWriter, FaultyStore, idsOf } from './helper/faulty-store.js'

const direct = 'u/alice/bob'
const team = 'g/team'

function sharedStore(): FaultyStore {
  const store = new FaultyStore()
  store.isShared = true
  return store
}

const entryOf = (seq: number, from = 'other', id = `o${seq}`): LogEntry => ({
  seq,
  ts: seq,
  from,
  device: 'x',
  id,
  payload: Buffer.from('{}'),
})
const groupEffect: Effect = { kind: 'group', record: { group: 'team', name: 'Team', createdTs: 1, membersMax: 100 } }
const memberEffect = (user: string, change: 'in' | 'out' = 'in'): Effect => ({
  kind: 'member',
  group: 'team',
  record: { user, role: change === 'in' ? 'member' : undefined, spans: [] },
})

/** Another node writes an entry. */
function writeElsewhere(store: FaultyStore, conv: string, effects: Effect[] = []): LogEntry {
  const entry = entryOf(store.of(conv).length + 1)
  store.write({ conv, entries: [entry], effects })
  return entry
}

/** As a message to a group: for members only. */
const asMember = (from: string, id: string): Partial<Operation> => ({
  plan: ({ group }) =>
    group !== undefined && isMember(group, from)
      ? { tail: Buffer.from(`"from":"${from}","id":"${id}"`), effects: [] }
      : refuse('forbidden', 'no'),
})

t.test('what other nodes write is followed: the next append does not lose', async (t) => {
  const store = sharedStore()
  const { writer, outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  for (let i = 0; i < 3; i++) writer.conversations.learn(direct, writeElsewhere(store, direct), [])
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 2)
  t.equal(store.appends, 2)
  t.same(idsOf(store, direct), ['alice a1', 'other o2', 'other o3', 'other o4', 'alice a2'])

  writer.conversations.learn(direct, entryOf(2), [])
  send(direct, 'alice', 'a3')
  await eventually(() => outcomes.length === 3)
  t.equal(store.appends, 3, 'what is known already changes nothing')

  writeElsewhere(store, direct)
  writer.conversations.learn(direct, writeElsewhere(store, direct), [])
  send(direct, 'alice', 'a4')
  await eventually(() => outcomes.length === 4)
  t.equal(store.appends, 4, 'a gap: the store is asked')

  writeElsewhere(store, direct)
  send(direct, 'alice', 'a5')
  await eventually(() => outcomes.length === 5)
  t.equal(store.appends, 6, 'nothing heard: it loses once')
  t.equal(store.of(direct).at(-1)?.seq, 11)
})

t.test('a client sends again over another node, and that is heard of while this one decides: stored once', async (t) => {
  const store = sharedStore()
  const { writer, outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  let finds = 0
  store.afterFind = () => {
    if (finds++ > 0) return
    const entry = { ...entryOf(2, 'alice', 'a2'), payload: Buffer.from('{"from":"alice","id":"a2"}') }
    store.write({ conv: direct, entries: [entry], effects: [] })
    writer.conversations.learn(direct, entry, [])
  }
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 2)
  t.match(outcomes.at(-1), { kind: 'duplicate', seq: 2 })
  t.same(idsOf(store, direct), ['alice a1', 'alice a2'])
})

t.test('a send without id is here, and its client sends it again over another node: stored once', async (t) => {
  const store = sharedStore()
  const { outcomes, send } = createWriter(store)
  const packet = { session: 'alice/phone', packetId: 1, digest: 'hi' }
  const stored = { ...packet, conv: direct, ts: Date.now() - 60_000 }
  const wire = { isEqual: () => true, retransmit: { ...packet, epoch: 5, order: 1 } }
  writeElsewhere(store, direct)
  store.retransmit = { ...stored, seq: 1, epoch: 5 }
  send(direct, 'alice', 'x1', wire)
  await eventually(() => outcomes.length === 1)
  t.match(outcomes.at(-1), { kind: 'stored', seq: 2 }, 'what this connect sent before was another one with this packet id')

  store.beforeAppend = () => {
    store.beforeAppend = () => undefined
    writeElsewhere(store, direct)
    store.retransmit = { ...stored, seq: 3, epoch: 6 }
  }
  send(direct, 'alice', 'x2', wire)
  await eventually(() => outcomes.length === 2)
  t.match(outcomes.at(-1), { kind: 'failed' }, 'a later connect has sent it while it waited')
  send(direct, 'alice', 'x3', wire)
  await eventually(() => outcomes.length === 3)
  t.match(outcomes.at(-1), { kind: 'failed' }, 'long ago')
  store.retransmit = { ...stored, seq: 3, epoch: 6, digest: 'another', packetId: 257 }
  send(direct, 'alice', 'x4', { ...wire, isRetry: true })
  send(direct, 'alice', 'x5')
  await eventually(() => outcomes.length === 5)
  t.match(
    outcomes.slice(3),
    [
      { kind: 'failed', name: `${direct} alice x4` },
      { kind: 'stored', seq: 4, name: `${direct} alice x5` },
    ],
    'and has sent more since, so that only the connect tells',
  )
  t.equal(store.of(direct).length, 4)
})

t.test('members that another node lets in and puts out are known', async (t) => {
  const store = sharedStore()
  store.write({ conv: team, entries: [entryOf(1)], effects: [groupEffect, memberEffect('alice')] })
  const { writer, outcomes, send } = createWriter(store)
  const say = async (from: string, id: string) => {
    const before = outcomes.length
    send(team, from, id, asMember(from, id))
    await eventually(() => outcomes.length === before + 1)
    return outcomes.at(-1)?.kind
  }
  t.equal(await say('alice', 'a1'), 'stored')
  t.equal(await say('bob', 'b1'), 'refused')
  writer.conversations.learn(team, writeElsewhere(store, team, [memberEffect('bob')]), [memberEffect('bob')])
  const reads = store.headReads
  t.equal(await say('bob', 'b2'), 'stored')
  t.equal(store.headReads, reads, 'nothing is read for what is stored')
  writer.conversations.learn(team, writeElsewhere(store, team, [memberEffect('alice', 'out')]), [memberEffect('alice', 'out')])
  t.equal(await say('alice', 'a2'), 'refused')
})

t.test('nothing was heard: nobody is refused on what was true before he wrote', async (t) => {
  const store = sharedStore()
  store.write({ conv: team, entries: [entryOf(1)], effects: [groupEffect, memberEffect('alice')] })
  const { outcomes, send } = createWriter(store)
  send(team, 'bob', 'b1', asMember('bob', 'b1'))
  await eventually(() => outcomes.length === 1)
  t.match(outcomes, [{ kind: 'refused' }])
  writeElsewhere(store, team, [memberEffect('bob')])
  send(team, 'bob', 'b2', asMember('bob', 'b2'))
  send(team, 'eve', 'e1', asMember('eve', 'e1'))
  send(team, 'bob', 'b3', asMember('bob', 'b3'))
  await eventually(() => outcomes.length === 4)
  t.same(idsOf(store, team), ['other o1', 'other o2', 'bob b2', 'bob b3'])
  t.match(
    outcomes.find(({ name }) => name.endsWith('e1')),
    { kind: 'refused', why: 'forbidden' },
  )
  send('g/new', 'alice', 'early', asMember('alice', 'early'))
  await eventually(() => outcomes.length === 5)
  t.match(outcomes.at(-1), { kind: 'refused' })
})

t.test('a flood of refused sends does not ask the store each time', async (t) => {
  const store = sharedStore()
  store.write({ conv: team, entries: [entryOf(1)], effects: [groupEffect, memberEffect('alice')] })
  const { outcomes, send } = createWriter(store)
  send(team, 'alice', 'a1', asMember('alice', 'a1'))
  await eventually(() => outcomes.length === 1)
  const reads = store.headReads
  for (let i = 0; i < 2_000; i++) send(team, 'eve', `e${i}`, asMember('eve', `e${i}`))
  await eventually(() => outcomes.length === 2_001)
  t.equal(store.headReads - reads, 1, 'what is proven after they came is proven for all of them')
})

t.test('the store fails when a refusal is to be confirmed: each is answered once, later', async (t) => {
  const store = sharedStore()
  store.write({ conv: team, entries: [entryOf(1)], effects: [groupEffect, memberEffect('alice')] })
  const { outcomes, send } = createWriter(store)
  send(team, 'alice', 'a1', asMember('alice', 'a1'))
  await eventually(() => outcomes.length === 1)
  let failures = 2
  store.beforeHeads = () => {
    if (failures-- > 0) throw new StoreUnavailable('away')
  }
  send(team, 'eve', 'e1', asMember('eve', 'e1'))
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 3)
  t.same(
    outcomes
      .slice(1)
      .map(({ kind, name }) => `${kind} ${name}`)
      .sort(),
    ['refused g/team eve e1', `stored ${direct} alice a2`].sort(),
  )
})

t.test('appends of different conversations do not wait for each other; those of one keep their order', async (t) => {
  const store = sharedStore()
  let goOn = (): void => undefined
  const held = new Promise<void>((resolve) => (goOn = resolve))
  store.beforeAppend = async (batch) => {
    if (batch.some(({ conv }) => conv === direct)) await held
  }
  const { writer, outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  await eventually(() => store.appends === 1)
  send(direct, 'alice', 'a2')
  send('u/alice/carol', 'alice', 'c1')
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.same(
    outcomes.map(({ name }) => name),
    ['u/alice/carol alice c1'],
  )
  t.equal(writer.waiting, 2, 'the others wait for their conversation')
  // Heard while it is held: an entry that another node wrote behind the one on its way.
  writer.conversations.learn(direct, entryOf(2), [])
  goOn()
  await eventually(() => outcomes.length === 4)
  t.same(idsOf(store, direct), ['alice a1', 'alice a2'])
  t.match(outcomes.slice(1), [
    { kind: 'stored', seq: 1 },
    { kind: 'stored', seq: 2 },
    { kind: 'duplicate', seq: 1 },
  ])
})

t.test('what is stored is answered while another batch still reads', async (t) => {
  const store = sharedStore()
  let goOn = (): void => undefined
  const held = new Promise<void>((resolve) => (goOn = resolve))
  let finds = 0
  store.beforeFind = async () => {
    if (++finds === 2) await held
  }
  store.beforeAppend = () => new Promise((resolve) => setTimeout(resolve, 10))
  const { outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  await eventually(() => store.appends === 1)
  send('u/alice/carol', 'alice', 'c1')
  await eventually(() => outcomes.length === 1)
  t.match(outcomes, [{ name: `${direct} alice a1` }])
  goOn()
  await eventually(() => outcomes.length === 2)
})

t.test('closing while several appends are under way, and the store is away', async (t) => {
  const store = sharedStore()
  store.beforeAppend = async (batch) => {
    await new Promise((resolve) => setTimeout(resolve, 5))
    if (batch.some(({ conv }) => conv === direct)) throw new StoreUnavailable('away')
  }
  const { writer, outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  await eventually(() => store.appends === 1)
  send(direct, 'alice', 'a2')
  send('u/alice/carol', 'alice', 'c1')
  await writer.close()
  t.same(outcomes.map(({ kind, name }) => `${kind} ${name}`).sort(), [
    `failed ${direct} alice a1`,
    `failed ${direct} alice a2`,
    'stored u/alice/carol alice c1',
  ])
})

t.test('three nodes at random: each is answered once, stored once, in order per sender, and told once', { timeout: 120_000 }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const convs = ['u/alice/bob', 'u/alice/carol', team]
  for (let round = 0; round < 6; round++) {
    const store = sharedStore()
    store.write({ conv: team, entries: [entryOf(1)], effects: [groupEffect] })
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, random(3)))
    const maybePause = () => (random(3) === 0 ? pause() : undefined)
    Object.assign(store, { beforeFind: maybePause, beforeHeads: maybePause, beforeRead: maybePause })
    store.beforeAppend = async (batch: readonly ConversationAppend[]) => {
      await pause()
      if (random(12) === 0) throw new StoreUnavailable('away')
      // Who was let in by what is written and not known to be is a member when his earlier message is decided on again.
      if (random(12) === 0 && batch.every(({ effects }) => effects.length === 0)) store.failsAfterwards++
    }
    const told: string[][] = [[], [], []]
    const nodes = told.map((mine, node) =>
      createWriter(store, {
        dispatch: (conv, entry, effects) => {
          mine.push(`${conv} ${entry.seq}`)
          for (const [other, { writer }] of nodes.entries()) {
            // Some frames are lost, some late.
            if (other === node || random(6) === 0) continue
            if (random(2) === 0) writer.conversations.learn(conv, entry, effects)
            else setTimeout(() => writer.conversations.learn(conv, entry, effects), random(4))
          }
        },
      }),
    )
    const again = new Set<string>()
    let sent = 0
    for (let step = 0; step < 1_500; step++) {
      const node = random(3)
      const conv = convs[random(3)] as string
      const old = random(10) === 0
      const from = `user${old ? random(3) : node}`
      const id = `m${old ? random(sent + 1) : sent}`
      if (old) again.add(id)
      const state = (conv === team ? asMember(from, id) : {}) as Partial<Operation>
      if (conv === team && random(20) === 0) {
        const effects = [memberEffect(from, random(3) > 0 ? 'in' : 'out')]
        nodes[node]?.send(conv, from, id, { plan: () => ({ tail: Buffer.from(`"from":"${from}","id":"${id}"`), effects }) })
      } else nodes[node]?.send(conv, from, id, state)
      sent++
      if (random(40) === 0) await pause()
    }
    await eventually(() => nodes.reduce((sum, { outcomes }) => sum + outcomes.length, 0) === sent, { timeoutMs: 30_000 })
    for (const conv of convs) {
      const entries = store.of(conv)
      t.same(
        entries.filter(({ seq }, index) => seq !== index + 1),
        [],
        'no gap',
      )
      const names = entries.map(({ from, id }) => `${from} ${id}`)
      t.equal(new Set(names).size, names.length, 'nothing twice')
      for (let user = 0; user < 3; user++) {
        const numbers = entries.filter(({ from, id }) => from === `user${user}` && !again.has(id)).map(({ id }) => Number(id.slice(1)))
        t.same(
          numbers,
          numbers.toSorted((a, b) => a - b),
          'in the order in which they were sent',
        )
      }
    }
    const stored = nodes.flatMap(({ outcomes }) =>
      outcomes.filter(({ kind }) => kind !== 'refused').map(({ name, seq }) => `${name} ${seq}`),
    )
    const known = new Set(convs.flatMap((conv) => store.of(conv).map(({ from, id, seq }) => `${conv} ${from} ${id} ${seq}`)))
    t.same(
      stored.filter((name) => !known.has(name)),
      [],
      'what is acknowledged is in the log',
    )
    for (const mine of told) t.equal(new Set(mine).size, mine.length, 'no node tells an entry twice')
    const all = new Set(told.flat())
    t.same(
      convs.flatMap((conv) => store.of(conv).map(({ seq }) => `${conv} ${seq}`)).filter((name) => name !== `${team} 1` && !all.has(name)),
      [],
      'every entry is told by some node',
    )
  }
})

t.test('what was given up and stored all the same is found, and so is what is sent again over another node', async (t) => {
  const store = sharedStore()
  const found: string[] = []
  const { writer, outcomes, send } = createWriter(store, { retryMs: 0, found: (conv, seq) => found.push(`${conv} ${seq}`) })
  store.failsAfterwards = 1
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.match(outcomes[0], { kind: 'failed' })
  await eventually(() => found.includes(`${direct} 1`), { timeoutMs: 20_000 })
  await writer.close()

  const other = createWriter(store, { found: (conv, seq) => found.push(`again ${conv} ${seq}`) })
  other.send(direct, 'alice', 'a1')
  await eventually(() => other.outcomes.length === 1)
  t.match(other.outcomes[0], { kind: 'duplicate', seq: 1 })
  t.ok(found.includes(`again ${direct} 1`))
  t.same(other.dispatched, [], 'it is for the log order to see who has it')
})

t.test('nobody is asked about what was given up when a later append has shown what is there', async (t) => {
  const store = sharedStore()
  const found: string[] = []
  const { outcomes, send } = createWriter(store, { retryMs: 0, found: (conv, seq) => found.push(`${conv} ${seq}`) })
  store.failsAfterwards = 1
  send(direct, 'alice', 'a1')
  send(team, 'alice', 'x1')
  await eventually(() => outcomes.length === 2)
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 3)
  await eventually(() => found.length > 0, { timeoutMs: 20_000 })
  t.same(found, [`${team} 1`])
})
