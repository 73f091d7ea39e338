/**
 * The log writer on stores that fail: each operation is answered exactly once, order per sender holds through retries, conflicts
 * and refusals, nothing is stored twice, and a store that stays away fails the senders without an acknowledgement.
 */
import t from 'tap'
import { refuse } from '../broker/errors.js'
import type { Operation } from '../broker/operation.js'
import { OwnPositions } from '../broker/positions.js'
import { type ConversationAppend, StoreUnavailable } from '../broker/store/store.js'
import { createRandom, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { createWriter, FaultyStore, idsOf } from './helper/faulty-store.js'

const direct = 'u/alice/bob'

t.test('a store that is away for a while costs nothing but time', async (t) => {
  const store = new FaultyStore()
  let failures = 3
  store.beforeAppend = () => {
    if (failures-- > 0) throw new StoreUnavailable('away')
  }
  const { writer, outcomes, dispatched, send } = createWriter(store)
  for (let i = 0; i < 10; i++) send(i % 2 === 0 ? direct : 'u/alice/carol', 'alice', `a${i}`)
  await eventually(() => !writer.healthy)
  t.same(outcomes, [], 'nothing is answered meanwhile')
  send(direct, 'alice', 'later')
  await eventually(() => outcomes.length === 11)
  t.ok(writer.healthy)
  t.same(idsOf(store, direct), ['alice a0', 'alice a2', 'alice a4', 'alice a6', 'alice a8', 'alice later'])
  t.same(
    outcomes.map(({ kind }) => kind),
    Array(11).fill('stored'),
  )
  t.same(
    dispatched.filter((each) => each.startsWith(direct)),
    [1, 2, 3, 4, 5, 6].map((seq) => `${direct} ${seq}`),
  )
})

t.test('an append that was done and not answered is not done again', async (t) => {
  const store = new FaultyStore()
  store.failsAfterwards = 1
  const { outcomes, dispatched, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 2)
  t.same(idsOf(store, direct), ['alice a1', 'alice a2'])
  t.same(outcomes, [
    { kind: 'duplicate', name: `${direct} alice a1`, seq: 1 },
    { kind: 'duplicate', name: `${direct} alice a2`, seq: 2 },
  ])
  send(direct, 'alice', 'a3')
  await eventually(() => outcomes.length === 3)
  t.same(dispatched, [`${direct} 1`, `${direct} 2`, `${direct} 3`], 'and live sessions get it, once')
})

t.test('what was written though it failed goes to live sessions, also when nobody writes there again', async (t) => {
  const store = new FaultyStore()
  store.failsAfterwards = 1
  const { outcomes, dispatched, send } = createWriter(store, { retryMs: 0 })
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.equal(outcomes[0]?.kind, 'failed')
  await eventually(() => dispatched.length === 1)
  send('u/carol/dave', 'carol', 'c1')
  await eventually(() => outcomes.length === 2)
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 3)
  t.same(dispatched, [`${direct} 1`, 'u/carol/dave 1', `${direct} 2`])
})

t.test('what is shown after a failure goes to live sessions with the next append, wherever that is', async (t) => {
  const store = new FaultyStore()
  let late: (() => void) | undefined
  store.beforeAppend = (batch) => {
    if (late !== undefined) return late()
    // Done in the end, and shown with the next append, as the embedded store does.
    late = () => {
      for (const append of batch) store.write(append)
      late = () => undefined
    }
    throw new StoreUnavailable('not now')
  }
  const { writer, outcomes, dispatched, send } = createWriter(store, { retryMs: 0 })
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.equal(writer.isAhead(direct, 0), false)
  t.equal(writer.isAhead(direct, 1), true, 'nobody may start behind it before it is dispatched')
  send('u/carol/dave', 'carol', 'c1')
  await eventually(() => outcomes.length === 2)
  t.same(dispatched, [`${direct} 1`, 'u/carol/dave 1'])
  t.equal(writer.isAhead(direct, 1), false)
})

t.test('a store that cannot be read after a failed append ends nothing: what it has is found later', async (t) => {
  const store = new FaultyStore()
  store.failsAfterwards = 1
  store.afterAppend = () => {
    store.beforeHeads = () => {
      throw new StoreUnavailable('closed')
    }
  }
  const { outcomes, dispatched, send } = createWriter(store, { retryMs: 0 })
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.same([idsOf(store, direct), dispatched], [['alice a1'], []])
  store.afterAppend = () => undefined
  store.beforeHeads = () => undefined
  send('u/carol/dave', 'carol', 'c1')
  await eventually(() => outcomes.length === 2)
  t.same(dispatched, [`${direct} 1`, 'u/carol/dave 1'])
})

t.test('a session that opens between an append and its dispatch waits for that', async (t) => {
  const store = new FaultyStore()
  let goOn = (): void => undefined
  store.afterAppend = () => new Promise((resolve) => (goOn = resolve))
  const trace: string[] = []
  const { writer, send } = createWriter(store, { dispatch: (_conv, { seq }) => trace.push(`dispatched ${seq}`) })
  send(direct, 'alice', 'a1')
  await eventually(() => store.of(direct).length === 1)
  const positions = new OwnPositions(store.asStore, (conv, head) => writer.isAhead(conv, head))
  const standing = positions.of('bob').then((found) => trace.push(`opened at ${found.heads()[0]?.head}`))
  const reads = store.headReads
  await eventually(() => store.headReads > reads + 3)
  t.same(trace, [])
  goOn()
  await standing
  t.same(trace, ['dispatched 1', 'opened at 1'])
})

t.test('another writer was faster: what lost is written behind, in its order', async (t) => {
  const store = new FaultyStore()
  let races = 2
  store.beforeAppend = ([append]) => {
    if (races-- <= 0) return
    const { conv, head } = append as ConversationAppend
    store.of(conv).push({ seq: head + 1, ts: 5, from: 'other', device: 'x', id: `o${races}`, payload: Buffer.from('{}') })
  }
  const { outcomes, dispatched, send } = createWriter(store)
  for (const id of ['a1', 'a2', 'a3']) send(direct, 'alice', id)
  send('u/alice/carol', 'alice', 'c1')
  send(direct, 'alice', 'a2')
  await eventually(() => outcomes.length === 5)
  t.same(idsOf(store, direct), ['other o1', 'other o0', 'alice a1', 'alice a2', 'alice a3'])
  t.same(
    store.of(direct).map(({ seq }) => seq),
    [1, 2, 3, 4, 5],
  )
  t.same(
    dispatched.filter((each) => each.startsWith(direct)),
    [3, 4, 5].map((seq) => `${direct} ${seq}`),
  )
  t.same(
    outcomes.filter(({ name }) => name === `${direct} alice a2`).map(({ kind, seq }) => [kind, seq]),
    [
      ['stored', 4],
      ['duplicate', 4],
    ],
  )
})

t.test('a store that stays away fails the senders, all that they sent since included', async (t) => {
  const store = new FaultyStore()
  let isAway = true
  store.beforeAppend = () => {
    if (isAway) throw new StoreUnavailable('away')
  }
  const { writer, outcomes, send } = createWriter(store, { retryMs: 150 })
  send(direct, 'alice', 'a1')
  await eventually(() => !writer.healthy)
  await eventually(() => {
    // Sent all the time, so that some are young when the first one is given up.
    if (outcomes.length === 0) send(direct, 'alice', `b${store.appends}-${performance.now()}`)
    return outcomes.length > 0
  })
  isAway = false
  send(direct, 'carol', 'c1')
  await eventually(() => outcomes.some(({ name }) => name.endsWith('carol c1')))
  t.match(outcomes[0], { kind: 'failed', name: `${direct} alice a1` })
  t.same(
    idsOf(store, direct).filter((id) => id.startsWith('alice')),
    [],
    'what alice sent behind a failed message is not stored before she sends that again',
  )
  t.match(
    outcomes.filter(({ name }) => name.includes(' alice ')).map(({ kind }) => kind),
    outcomes.filter(({ name }) => name.includes(' alice ')).map(() => 'failed'),
  )
})

t.test('after giving up it does not claim for ever to be ill', async (t) => {
  const store = new FaultyStore()
  store.beforeAppend = () => {
    throw new StoreUnavailable('away')
  }
  const { writer, outcomes, send } = createWriter(store, { retryMs: 0 })
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 1)
  t.match(outcomes, [{ kind: 'failed' }])
  await eventually(() => writer.healthy, { what: 'nothing waits, so the store itself has to be asked' })
})

t.test('a plan that throws refuses its own message only', async (t) => {
  const store = new FaultyStore()
  const { outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  send(direct, 'alice', 'a2', {
    plan: () => {
      throw new Error('a fault of a plugin')
    },
  })
  send(direct, 'alice', 'a3', { plan: () => refuse('blocked', 'no') })
  send(direct, 'alice', 'a4')
  await eventually(() => outcomes.length === 4)
  t.same(idsOf(store, direct), ['alice a1', 'alice a4'])
  t.same(
    outcomes.filter(({ kind }) => kind === 'refused').map(({ name, why }) => [name.split(' ').at(-1), why]),
    [
      ['a2', 'internal'],
      ['a3', 'blocked'],
    ],
  )
})

t.test('an answer that throws neither repeats the batch nor hides the others', async (t) => {
  const store = new FaultyStore()
  const { outcomes, dispatched, send } = createWriter(store)
  const broken = () => {
    throw new Error('a fault behind the answer')
  }
  send(direct, 'alice', 'a1', { stored: broken })
  send(direct, 'alice', 'a2', { plan: () => refuse('blocked', 'no'), refused: broken })
  send(direct, 'alice', 'a3')
  await eventually(() => outcomes.length === 1)
  send(direct, 'alice', 'a4')
  await eventually(() => outcomes.length === 2)
  t.same(idsOf(store, direct), ['alice a1', 'alice a3', 'alice a4'])
  t.same(dispatched, [`${direct} 1`, `${direct} 2`, `${direct} 3`], 'members get what is stored')
  t.same(
    outcomes.map(({ kind }) => kind),
    ['stored', 'stored'],
  )
})

t.test('the same id: equal is a duplicate, different a conflict', async (t) => {
  const store = new FaultyStore()
  const { outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  send(direct, 'alice', 'a1')
  await eventually(() => outcomes.length === 2)
  send(direct, 'alice', 'a1')
  send(direct, 'alice', 'a1', { isEqual: (tail) => tail.equals(Buffer.from('"from":"alice","id":"a1","type":"other"')) })
  send(direct, 'bob', 'a1')
  await eventually(() => outcomes.length === 5)
  t.same(idsOf(store, direct), ['alice a1', 'bob a1'])
  t.same(outcomes.map(({ kind }) => kind).sort(), ['duplicate', 'duplicate', 'refused', 'stored', 'stored'])
  t.equal(outcomes.find(({ kind }) => kind === 'refused')?.why, 'conflict')
})

t.test('the clock may jump, ts goes on', async (t) => {
  const store = new FaultyStore()
  const clock = [5_000, 9_000, 2_000, 3_000, 9_500]
  let now = 5_000
  const { outcomes, send } = createWriter(store, { now: () => now })
  for (const [index, time] of clock.entries()) {
    now = time
    send(direct, 'alice', `a${index}`)
    await eventually(() => outcomes.length === index + 1)
  }
  t.same(
    store.of(direct).map(({ ts }) => ts),
    [5_000, 9_000, 9_000, 9_000, 9_500],
  )
})

t.test('closing finishes what is queued and takes no more', async (t) => {
  const store = new FaultyStore()
  const { writer, outcomes, send } = createWriter(store)
  for (let i = 0; i < 5_000; i++) send(direct, 'alice', `a${i}`)
  const closing = writer.close()
  send(direct, 'alice', 'late')
  await closing
  t.match(outcomes[0], { kind: 'failed', why: /shutting down/ })
  t.equal(store.of(direct).length, 5_000)
  t.equal(outcomes.length, 5_001)
})

// --- one batch is answered while the next is written ---------------------------------------------------------------

/** Holds the first append until `goOn`, with what was sent meanwhile in the second; `trace` is what happened, in order. */
function holdFirst(store: FaultyStore, atAppend: (append: number) => void = () => undefined) {
  const trace: string[] = []
  let goOn = (): void => undefined
  const held = new Promise<void>((resolve) => (goOn = resolve))
  store.beforeAppend = async (batch) => {
    const append = store.appends
    trace.push(`append ${batch.flatMap(({ entries }) => entries.map(({ id }) => id)).join(' ')}`)
    if (append === 1) await held
    else await new Promise(setImmediate)
    atAppend(append)
  }
  const answers = (name: string): Partial<Operation> => ({
    stored: ({ seq }) => trace.push(`stored ${name} ${seq}`),
    duplicate: ({ seq }) => trace.push(`duplicate ${name} ${seq}`),
    refused: ({ code }) => trace.push(`refused ${name} ${code}`),
    failed: () => trace.push(`failed ${name}`),
  })
  const created = createWriter(store, { dispatch: (_, { id, seq }) => trace.push(`dispatch ${id} ${seq}`) })
  const send = (id: string, more: Partial<Operation> = {}, from = 'alice', conv = direct) =>
    created.send(conv, from, id, { ...answers(id), ...more })
  return { writer: created.writer, trace, send, goOn, whenHeld: () => eventually(() => store.appends === 1) }
}

t.test('a batch is answered and dispatched while the next is written, and before it', async (t) => {
  const store = new FaultyStore()
  const { trace, send, goOn, whenHeld } = holdFirst(store)
  send('a1')
  send('a2')
  await whenHeld()
  send('a3')
  send('no', { plan: () => refuse('blocked', 'no') })
  send('a4')
  goOn()
  await eventually(() => trace.includes('dispatch a4 4') && trace.includes('refused no blocked'))
  t.same(trace, [
    'append a1 a2',
    'append a3 a4',
    ...['stored a1 1', 'dispatch a1 1', 'stored a2 2', 'dispatch a2 2'],
    ...['stored a3 3', 'dispatch a3 3', 'stored a4 4', 'dispatch a4 4'],
    'refused no blocked',
  ])
})

t.test('a duplicate of what is being answered is answered behind it', async (t) => {
  const store = new FaultyStore()
  const { trace, send, goOn, whenHeld } = holdFirst(store)
  send('a1')
  await whenHeld()
  send('a1')
  send('a1', { isEqual: (tail) => tail.equals(Buffer.from('"from":"alice","id":"a1","body":"other"')) })
  goOn()
  await eventually(() => trace.length === 5)
  t.same(trace, ['append a1', 'stored a1 1', 'dispatch a1 1', 'duplicate a1 1', 'refused a1 conflict'])
  t.equal(store.appends, 1)
})

t.test('duplicates whose first has to be read are answered before the next batch', async (t) => {
  const store = new FaultyStore()
  store.of(direct).push({ seq: 1, ts: 1, from: 'alice', device: 'phone', id: 'old', payload: Buffer.from('{"from":"alice","id":"old"}') })
  store.beforeRead = () => new Promise((resolve) => setTimeout(resolve, 5))
  const { trace, send, goOn, whenHeld } = holdFirst(store)
  send('a2')
  send('old')
  await whenHeld()
  send('a3')
  send('old')
  goOn()
  await eventually(() => trace.length === 8)
  t.same(trace, [
    'append a2',
    'append a3',
    'stored a2 2',
    'dispatch a2 2',
    'duplicate old 1',
    'stored a3 3',
    'dispatch a3 3',
    'duplicate old 1',
  ])
})

t.test('the next batch fails while one is answered: the one is answered once, the next is tried again', async (t) => {
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', onUnhandled)
  t.teardown(() => process.off('unhandledRejection', onUnhandled))
  const expected = [...['stored a1 1', 'dispatch a1 1'], ...['stored a2 2', 'dispatch a2 2', 'stored a3 3', 'dispatch a3 3']]
  for (const where of ['before the append', 'in the append', 'after the append', 'at once']) {
    const store = new FaultyStore()
    const { trace, send, goOn, whenHeld } = holdFirst(store, (append) => {
      if (append === 2 && where === 'in the append') throw new StoreUnavailable('away')
      if (append === 2 && where === 'after the append') store.failsAfterwards = 1
    })
    send('a1')
    await whenHeld()
    let finds = 0
    store.beforeFind = () => {
      if (finds++ === 0 && where === 'before the append') throw new StoreUnavailable('away')
    }
    if (where === 'at once') {
      const { beforeAppend } = store
      store.beforeAppend = (batch) => {
        if (store.appends === 2) throw new StoreUnavailable('away')
        return beforeAppend(batch)
      }
    }
    send('a2')
    send('a3')
    goOn()
    await eventually(() => trace.some((each) => /(stored|duplicate) a3/.test(each)) && trace.includes('dispatch a3 3'))
    const told = trace.filter((each) => !each.startsWith('append'))
    if (where === 'after the append')
      t.same(
        told.sort(),
        ['stored a1 1', 'dispatch a1 1', 'dispatch a2 2', 'dispatch a3 3', 'duplicate a2 2', 'duplicate a3 3'].sort(),
        where,
      )
    else t.same(told, expected, where)
    t.same(idsOf(store, direct), ['alice a1', 'alice a2', 'alice a3'], where)
  }
  await new Promise(setImmediate)
  t.same(unhandled, [])
})

t.test('another writer is faster than the second of two batches', async (t) => {
  const store = new FaultyStore()
  const { trace, send, goOn, whenHeld } = holdFirst(store, (append) => {
    if (append === 2) store.of(direct).push({ seq: 2, ts: 1, from: 'x', device: '', id: 'x', payload: Buffer.from('{}') })
  })
  send('a1')
  await whenHeld()
  send('a2')
  send('c1', {}, 'alice', 'u/alice/carol')
  send('a2')
  goOn()
  await eventually(() => trace.includes('duplicate a2 3'))
  t.same(
    trace.filter((each) => !each.startsWith('append')),
    ['stored a1 1', 'dispatch a1 1', 'stored c1 1', 'dispatch c1 1', 'stored a2 3', 'dispatch a2 3', 'duplicate a2 3'],
  )
})

t.test('one id in one batch, from many senders into many conversations, and again', async (t) => {
  const store = new FaultyStore()
  const { outcomes, send } = createWriter(store)
  const convs = Array.from({ length: 20 }, (_, i) => `u/alice/peer${i}`)
  const senders = Array.from({ length: 8 }, (_, i) => `s${i}`)
  for (let again = 0; again < 3; again++) for (const conv of convs) for (const from of senders) send(conv, from, 'same')
  await eventually(() => outcomes.length === 3 * convs.length * senders.length)
  for (const conv of convs)
    t.same(
      idsOf(store, conv),
      senders.map((from) => `${from} same`),
    )
  t.equal(outcomes.filter(({ kind }) => kind === 'stored').length, convs.length * senders.length)
  const seqs = new Map<string, number | undefined>()
  for (const { kind, name, seq } of outcomes) if (kind === 'stored') seqs.set(name, seq)
  t.same(
    outcomes.filter(({ kind, name, seq }) => kind !== 'stored' && (kind !== 'duplicate' || seqs.get(name) !== seq)),
    [],
  )
})

t.test('closing while one batch is answered and the next is written', async (t) => {
  for (const isAway of [false, true]) {
    const store = new FaultyStore()
    const { writer, trace, send, goOn, whenHeld } = holdFirst(store, (append) => {
      if (append > 1 && isAway) throw new StoreUnavailable('away')
    })
    send('a1')
    await whenHeld()
    send('a2')
    const closing = writer.close().then(() => trace.push('closed'))
    send('late')
    goOn()
    await closing
    const second = isAway ? ['failed a2'] : ['stored a2 2', 'dispatch a2 2']
    t.same(trace, ['append a1', 'failed late', 'append a2', 'stored a1 1', 'dispatch a1 1', ...second, 'closed'])
    t.equal(writer.waiting, 0)
  }
})

t.test('at random: each is answered once, in order per sender, and stored once', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let round = 0; round < 10; round++) {
    const store = new FaultyStore()
    let intruder = 0
    store.beforeAppend = async (batch) => {
      const choice = random(6)
      if (choice === 0) throw new StoreUnavailable('away')
      if (choice === 1) store.failsAfterwards = 1
      if (choice === 2) {
        const { conv } = batch[random(batch.length)] as ConversationAppend
        store
          .of(conv)
          .push({ seq: store.of(conv).length + 1, ts: 1, from: 'x', device: '', id: `x${intruder++}`, payload: Buffer.from('{}') })
      }
      if (choice === 3) await new Promise(setImmediate)
      if (choice === 4) await new Promise((resolve) => setTimeout(resolve, 2))
    }
    const { outcomes, dispatched, send } = createWriter(store)
    const convs = ['u/alice/bob', 'u/alice/carol', 'u/bob/carol']
    let sent = 0
    const again = new Set<string>()
    // In odd rounds more than a batch takes waits all the time.
    for (let step = 0; step < (round % 2 === 0 ? 200 : 5_000); step++) {
      const conv = convs[random(3)] as string
      const id = `m${random(10) === 0 ? random(sent + 1) : sent}`
      if (id !== `m${sent}`) again.add(id)
      send(conv, random(2) === 0 ? 'alice' : 'bob', id)
      sent++
      if (random(round % 2 === 0 ? 10 : 300) === 0) await new Promise(setImmediate)
    }
    await eventually(() => outcomes.length === sent, { timeoutMs: 20_000 })
    for (const conv of convs) {
      const entries = store.of(conv)
      const gaps = entries.filter(({ seq }, index) => seq !== index + 1)
      const names = entries.map(({ from, id }) => `${from} ${id}`)
      if (gaps.length > 0) return t.same(gaps, [], conv)
      if (new Set(names).size !== names.length) return t.same(names, [...new Set(names)], conv)
      for (const from of ['alice', 'bob']) {
        const numbers = entries.filter((entry) => entry.from === from && !again.has(entry.id)).map(({ id }) => Number(id.slice(1)))
        const ordered = numbers.toSorted((a, b) => a - b)
        if (numbers.join() !== ordered.join()) return t.same(numbers, ordered, `${conv}: ${from}'s in the order in which they were sent`)
      }
      const own = entries.filter(({ from }) => from !== 'x').map(({ seq }) => `${conv} ${seq}`)
      const told = dispatched.filter((each) => own.includes(each))
      if (told.join() !== own.join()) return t.same(told, own, `${conv}: each is dispatched once, in order`)
    }
  }
})

// --- the next batch is decided before the one that is written is on the disk ----------------------------------------------

/** More than a batch takes. */
const many = 700

/** Sends `m0` …, holds the first append until all are sent and the second batch is decided, then does `what` to it. */
async function heldWithManyBehind(store: FaultyStore, what: (batch: readonly ConversationAppend[]) => void, conv = direct) {
  let goOn = (): void => undefined
  const held = new Promise<void>((resolve) => (goOn = resolve))
  store.beforeAppend = async (batch) => {
    if (store.appends > 1) return
    await held
    what(batch)
  }
  let decided = 0
  const { outcomes, dispatched, writer, send } = createWriter(store)
  const tail = (id: string) => Buffer.from(`"from":"alice","id":"${id}"`)
  const counted = (id: string): Partial<Operation> => ({
    plan: () => {
      decided++
      return { tail: tail(id), effects: [] }
    },
  })
  send(conv, 'alice', 'first', counted('first'))
  await eventually(() => store.appends === 1)
  for (let i = 0; i < many; i++) send(conv, 'alice', `m${i}`, counted(`m${i}`))
  // Sent again while what it repeats is on its way.
  send(conv, 'alice', 'first')
  send(conv, 'alice', 'm0')
  await eventually(() => decided > 100, { what: 'the second batch is decided while the first is written' })
  t.equal(store.appends, 1)
  t.same(outcomes, [])
  goOn()
  await eventually(() => outcomes.length === many + 3)
  return { outcomes, dispatched, writer }
}

const inOrder = (before: string[] = []): string[] => [...before, 'alice first', ...Array.from({ length: many }, (_, i) => `alice m${i}`)]

t.test('what is decided ahead knows what is on its way', async (t) => {
  const store = new FaultyStore()
  const { outcomes, dispatched } = await heldWithManyBehind(store, () => undefined)
  t.same(idsOf(store, direct), inOrder())
  t.equal(dispatched.length, many + 1)
  t.same(
    outcomes.filter(({ kind }) => kind === 'duplicate').map(({ name, seq }) => `${name} ${seq}`),
    [`${direct} alice first 1`, `${direct} alice m0 2`],
  )
})

t.test('the first of two fails: the second is not written before it', async (t) => {
  const store = new FaultyStore()
  const { outcomes } = await heldWithManyBehind(store, () => {
    throw new StoreUnavailable('away')
  })
  t.same(idsOf(store, direct), inOrder())
  t.same(
    store.of(direct).map(({ seq }) => seq),
    Array.from({ length: many + 1 }, (_, i) => i + 1),
  )
  t.equal(outcomes.filter(({ kind }) => kind === 'stored').length, many + 1)
})

t.test('the first of two is written and its answer is lost: nothing twice, and live sessions get it in order', async (t) => {
  const store = new FaultyStore()
  const { dispatched } = await heldWithManyBehind(store, () => store.failsAfterwards++)
  t.same(idsOf(store, direct), inOrder())
  t.same(
    dispatched,
    Array.from({ length: many + 1 }, (_, i) => `${direct} ${i + 1}`),
  )
})

t.test('another writer is faster than the first of two: the second is decided anew behind it', async (t) => {
  const store = new FaultyStore()
  const { outcomes } = await heldWithManyBehind(store, () => {
    store.of(direct).push({ seq: 1, ts: 1, from: 'x', device: '', id: 'x', payload: Buffer.from('{}') })
  })
  t.same(idsOf(store, direct), inOrder(['x x']))
  t.same(
    outcomes.filter(({ kind }) => kind === 'duplicate').map(({ name, seq }) => `${name} ${seq}`),
    [`${direct} alice first 2`, `${direct} alice m0 3`],
  )
})

t.test('a message over what the log takes is refused, and the others are stored', async (t) => {
  const store = new FaultyStore()
  const { outcomes, send } = createWriter(store)
  send(direct, 'alice', 'a1')
  send(direct, 'alice', 'a2', { plan: () => ({ tail: Buffer.alloc(13 * 1024 * 1024, ' '), effects: [] }) })
  send(direct, 'alice', 'a3')
  await eventually(() => outcomes.length === 3)
  t.same(idsOf(store, direct), ['alice a1', 'alice a3'])
  t.equal(outcomes.find(({ kind }) => kind === 'refused')?.why, 'too_large')
})

t.test('what changes more members than one append takes is spread over several, in order', async (t) => {
  const store = new FaultyStore()
  const sizes: number[] = []
  store.beforeAppend = ([first]) => void sizes.push(first?.effects.length ?? 0)
  const { outcomes, send } = createWriter(store)
  const record = { group: 'team', name: 'Team', createdTs: 1, membersMax: 100 }
  for (let i = 0; i < 12; i++) {
    const effects = Array.from({ length: 4_000 }, () => ({ kind: 'group' as const, record: { ...record, name: `Team ${i}` } }))
    send('g/team', 'alice', `a${i}`, { plan: () => ({ tail: Buffer.from(`"from":"alice","id":"a${i}"`), effects }) })
  }
  await eventually(() => outcomes.length === 12)
  t.same(
    idsOf(store, 'g/team'),
    Array.from({ length: 12 }, (_, i) => `alice a${i}`),
  )
  t.same(sizes, [12_000, 12_000, 12_000, 12_000])
})
