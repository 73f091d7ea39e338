/** The schedule of an open loop is kept on paper whatever happens in the process, packet ids are not taken twice, draws follow their weights. */
import t from 'tap'
import { dueMs, Pacer } from '../loadtest/pacer.js'
import { PacketIds } from '../loadtest/packet-ids.js'
import { createRandom, WeightedPick } from '../loadtest/scenarios/random.js'
import { elapsedMicros, isSince, stampAfter, stampNow } from '../loadtest/stamp.js'
import { Tally } from '../loadtest/tally.js'
import { eventually } from './helper/eventually.js'

t.test('when calls are due', async (t) => {
  t.equal(dueMs(0, 1_000, 0), 0)
  t.equal(dueMs(500, 1_000, 0), 500)
  // Half as many calls in the ramp as at the full rate, the last of them at its end.
  t.equal(dueMs(1_000, 1_000, 2_000), 2_000)
  t.equal(dueMs(1_250, 1_000, 2_000), 2_250)
  for (let index = 1; index < 3_000; index++) {
    if (dueMs(index, 1_000, 2_000) <= dueMs(index - 1, 1_000, 2_000)) t.fail(`call ${index} is due before the one before`)
  }
  t.ok(dueMs(11, 1_000, 2_000) - dueMs(10, 1_000, 2_000) > dueMs(901, 1_000, 2_000) - dueMs(900, 1_000, 2_000), 'slow at first')
})

t.test('a process that was held up catches up, and each call has the time at which it was due', async (t) => {
  const stamps: number[] = []
  const pacer = new Pacer({ perSecond: 1_000, rampMs: 0, phase: 0.5, fire: (stamp) => stamps.push(stamp) })
  pacer.start()
  await eventually(() => stamps.length > 5)
  const held = performance.now() + 60
  while (performance.now() < held);
  await eventually(() => stamps.length > 70)
  pacer.stop()
  const gaps = stamps.slice(1).map((stamp, index) => elapsedMicros(stamps[index] as number, stamp))
  t.same(
    gaps.filter((gap) => gap !== 1_000),
    [],
    'one each millisecond, the time in which nothing could be sent included',
  )
  t.ok(pacer.lateness.quantile(1) > 30_000, 'and it says how late it was')
  const tally = new Tally()
  for (const stamp of stamps) tally.deliver(stamp, 'live')
  t.ok(tally.latency.quantile(1) >= 60_000, 'latencies count from the schedule')
})

t.test('only what was sent since the mark is in the window', async (t) => {
  const tally = new Tally()
  const before = stampNow()
  await eventually(() => stampNow() !== before)
  tally.mark()
  tally.deliver(before, 'live')
  tally.deliver(stampNow(), 'live')
  tally.deliver(stampNow(), 'waited')
  t.equal(tally.delivered, 3)
  t.equal(tally.latency.count, 2)
  t.equal(tally.sinceMark.count, 1)
  t.equal(isSince(999_999_990, stampAfter(999_999_990, 20)), true, 'across the end of the clock')
  t.equal(isSince(10, 999_999_990), false)
})

t.test('packet ids', async (t) => {
  const ids = new PacketIds(60_000)
  const claimed = new Set<number>()
  for (let i = 0; i < 10_000; i++) claimed.add(ids.claim())
  t.equal(claimed.size, 10_000, 'none twice')
  t.ok(Math.min(...claimed) >= 1 && Math.max(...claimed) < 60_000)
  t.equal(ids.claimed, 10_000)
  t.ok([...claimed].every((id) => ids.release(id)))
  t.equal(ids.claimed, 0)
  t.equal(ids.release(1), false)
  t.equal(ids.strays, 1)
  const few = new PacketIds(4)
  for (let i = 0; i < 3; i++) few.claim()
  t.throws(() => few.claim(), /no more packet ids/)
})

t.test('draws follow the weights, and the seed', async (t) => {
  const pick = new WeightedPick([1, 0, 3])
  t.equal(pick.total, 4)
  t.same(
    [0, 0.24, 0.25, 0.9, 0.999_999].map((at) => pick.pick(at)),
    [0, 0, 2, 2, 2],
  )
  const [a, b, c] = [createRandom(7), createRandom(7), createRandom(8)]
  const draw = (random: () => number): number[] => Array.from({ length: 20 }, random)
  const [first, second, third] = [draw(a), draw(b), draw(c)]
  t.same(first, second)
  t.notSame(first, third)
  t.ok(first.every((value) => value >= 0 && value < 1))
})
