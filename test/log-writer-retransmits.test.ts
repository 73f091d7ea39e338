/**
 * A client that sends without ids, under packet ids that it uses again, loses its connection and sends again over any of three nodes, while
 * appends fail, are late, and land after everybody has given them up, and nodes read what a lost connection had sent long after the client has
 * left: each message is stored once, in the order in which it was sent first.
 */
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { LogWriter } from '../broker/log-writer.js'
import { createLogger } from '../broker/logger.js'
import type { Plan } from '../broker/operation.js'
import { type ConversationAppend, type Store, type StoredRetransmit, StoreUnavailable } from '../broker/store/store.js'
import { createRandom, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { FaultyStore } from './helper/faulty-store.js'

const conv = 'u/alice/bob'
const session = 'alice/phone'
type Random = (below: number) => number

/** As MongoDB: what is derived of an append is written behind it, or by whoever reads the head first. */
function createStore(random: Random): { store: FaultyStore; shared: Store } {
  const store = new FaultyStore()
  store.isShared = true
  const failEvery = 3 + random(12)
  const pauseMs = 1 + random(12)
  const pause = () => (random(2) === 0 ? delay(random(pauseMs)) : undefined)
  Object.assign(store, { beforeFind: pause, afterFind: pause, beforeHeads: pause, beforeRead: pause })
  store.beforeAppend = async () => {
    await pause()
    if (random(failEvery) === 0) throw new StoreUnavailable('away')
    if (random(failEvery) === 0) store.failsAfterwards++
  }
  const base = store.asStore
  const records = new Map<number, StoredRetransmit & { order: number }>()
  let unapplied: ConversationAppend[] = []
  const put = ({ entries, retransmits }: ConversationAppend): void => {
    for (const { seq, ...retransmit } of retransmits) {
      const entry = entries.find((each) => each.seq === seq)
      const { epoch, order } = records.get(retransmit.packetId) ?? { epoch: 0, order: 0 }
      const isLater = retransmit.epoch > epoch || (retransmit.epoch === epoch && retransmit.order > order)
      if (entry !== undefined && isLater) records.set(retransmit.packetId, { ...retransmit, conv, seq, ts: entry.ts })
    }
  }
  const apply = (): void => {
    for (const append of unapplied.splice(0)) {
      put(append)
      // A node that found it too, and was slow.
      setTimeout(put, random(60), append)
    }
  }
  const landed = (batch: readonly ConversationAppend[]): void => {
    unapplied = [...unapplied, ...batch.filter(({ entries: [first] }) => first !== undefined && store.of(conv)[first.seq - 1] === first)]
  }
  const log: Store['log'] = {
    ...base.log,
    async append(batch) {
      if (random(failEvery) === 0) {
        const late = batch.map((append) => ({ ...append, entries: [...append.entries], retransmits: [...append.retransmits] }))
        setTimeout(() => {
          for (const append of late) if (store.of(conv).length === append.head) store.write(append)
          landed(late)
        }, random(40))
        await delay(random(10))
        throw new StoreUnavailable('no answer in time')
      }
      try {
        return await base.log.append(batch)
      } finally {
        landed(batch)
        apply()
      }
    },
    async heads(convs) {
      const heads = await base.log.heads(convs)
      apply()
      return heads
    },
    async findRetransmit(_, packetId) {
      await pause()
      return records.get(packetId)
    },
  }
  return { store, shared: { ...base, log } }
}

/** Keeps what has no PUBACK, and sends it again in its order, with DUP, when it comes back. */
class Client {
  /** What was sent, by packet id; in the order in which it was sent first. */
  readonly #inFlight = new Map<number, number>()
  readonly #nodes: readonly LogWriter[]
  readonly #random: Random
  /** What of the present connection waits for PUBACK, in order, and whether it has its outcome. */
  #waiting: { packetId: number; isDone: boolean }[] = []
  #node: LogWriter
  #epoch = 0
  #order = 0
  /** The last connect to each node, which reads nothing more of the one before. */
  readonly #lastAt = new Map<LogWriter, number>()
  /** How far the node has read what was sent over the present connection. */
  #read: Promise<unknown> = Promise.resolve()
  sent = 0

  constructor(nodes: readonly LogWriter[], random: Random) {
    this.#nodes = nodes
    this.#random = random
    this.#node = nodes[0] as LogWriter
    this.comesBack()
  }

  get unsettled(): number {
    return this.#inFlight.size
  }

  send(): void {
    let packetId = 1
    while (this.#inFlight.has(packetId) || this.#waiting.some((one) => one.packetId === packetId)) packetId++
    this.#inFlight.set(packetId, ++this.sent)
    this.#publish(packetId, this.sent, false)
  }

  comesBack(): void {
    this.#waiting = []
    this.#read = Promise.resolve()
    this.#epoch++
    this.#node = this.#nodes[this.#random(this.#nodes.length)] as LogWriter
    this.#lastAt.set(this.#node, this.#epoch)
    this.repeats()
  }

  repeats(): void {
    for (const [packetId, body] of this.#inFlight) this.#publish(packetId, body, true)
  }

  #publish(packetId: number, body: number, isRetry: boolean): void {
    const waiting = this.#waiting
    const node = this.#node
    const epoch = this.#epoch
    const one = { packetId, isDone: false }
    waiting.push(one)
    const done = (): void => {
      one.isDone = true
      if (waiting !== this.#waiting) return
      while (waiting[0]?.isDone) this.#inFlight.delete((waiting.shift() as typeof one).packetId)
    }
    const failed = (): void => {
      // Closed by the node, which reads nothing more of it.
      if (this.#lastAt.get(node) === epoch) this.#lastAt.delete(node)
      if (waiting === this.#waiting) this.comesBack()
    }
    const outcome = { stored: done, duplicate: done, refused: done, failed }
    const plan = (): Plan => ({ tail: Buffer.from(`"body":${body}`), effects: [] })
    const id = `mqtt-${this.#random(2 ** 31)}`
    const more = { from: 'alice', device: 'phone', target: undefined, plan, ...outcome }
    const submit = (): void => {
      if (this.#lastAt.get(node) !== epoch) return
      const retransmit = { session, packetId, digest: String(body), epoch, order: ++this.#order }
      node.submit({ conv, id, retransmit, isRetry, ...more }, 100)
    }
    const lateMs = this.#random(8) === 0 ? this.#random(80) : 0
    this.#read = this.#read.then(() => (lateMs > 0 ? delay(lateMs) : undefined)).then(submit)
  }
}

t.test('sends without id over nodes that are slow and a store that fails: once, in order', { timeout: 240_000 }, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let round = 0; round < 40; round++) {
    const { store, shared } = createStore(random)
    const retryMs = random(2) === 0 ? 15 : 60_000
    const nodes = [0, 1, 2].map(() => new LogWriter({ store: shared, logger: createLogger('silent'), retryMs, dispatch: () => undefined }))
    const client = new Client(nodes, random)
    const total = 12 + random(20)
    const step = (): boolean => {
      for (let n = random(4); n > 0 && client.sent < total && client.unsettled < 8; n--) client.send()
      if (random(12) === 0) client.comesBack()
      else if (random(10) === 0) client.repeats()
      return client.sent === total && client.unsettled === 0
    }
    await eventually(step, { timeoutMs: 60_000, everyMs: 2 })
    await Promise.all(nodes.map((node) => node.close()))
    const bodies = store.of(conv).map(({ payload }) => Number(/"body":(\d+)/.exec(payload.toString())?.[1]))
    const expected = Array.from({ length: total }, (_, n) => n + 1)
    if (bodies.join() !== expected.join()) t.same(bodies, expected, `round ${round}`)
  }
  t.pass('all rounds')
})
