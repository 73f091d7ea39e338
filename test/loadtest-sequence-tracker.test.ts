/** The counters of the load tool detect each kind of fault: lost, duplicate, late, and seqs with gaps or repeats. */
import t from 'tap'
import { missingMax, SeqLedger, SequenceTracker } from '../loadtest/sequence-tracker.js'

function track(numbers: number[], sent: number): { lost: number; duplicates: number; outOfOrder: number; received: number } {
  const tracker = new SequenceTracker()
  for (const number of numbers) tracker.record(number)
  const { duplicates, outOfOrder, received } = tracker
  return { lost: tracker.lost(sent), duplicates, outOfOrder, received }
}

t.test('in order', async (t) => {
  t.same(track([0, 1, 2, 3], 4), { lost: 0, duplicates: 0, outOfOrder: 0, received: 4 })
})

t.test('lost: at the start, in the middle, at the end, and all', async (t) => {
  t.same(track([1, 2, 3], 4), { lost: 1, duplicates: 0, outOfOrder: 0, received: 3 })
  t.same(track([0, 3], 4), { lost: 2, duplicates: 0, outOfOrder: 0, received: 2 })
  t.same(track([0, 1], 4), { lost: 2, duplicates: 0, outOfOrder: 0, received: 2 })
  t.same(track([], 4), { lost: 4, duplicates: 0, outOfOrder: 0, received: 0 })
})

t.test('duplicate: at once, later, and of one that came late', async (t) => {
  t.same(track([0, 0, 1], 2), { lost: 0, duplicates: 1, outOfOrder: 0, received: 2 })
  t.same(track([0, 1, 2, 0, 1], 3), { lost: 0, duplicates: 2, outOfOrder: 0, received: 3 })
  t.same(track([1, 0, 0], 2), { lost: 0, duplicates: 1, outOfOrder: 1, received: 2 })
})

t.test('out of order: a swap and a block', async (t) => {
  t.same(track([0, 2, 1, 3], 4), { lost: 0, duplicates: 0, outOfOrder: 1, received: 4 })
  t.same(track([2, 3, 0, 1], 4), { lost: 0, duplicates: 0, outOfOrder: 2, received: 4 })
})

t.test('a duplicate does not hide a loss', async (t) => {
  t.same(track([0, 1, 1, 3], 4), { lost: 1, duplicates: 1, outOfOrder: 0, received: 3 })
})

t.test('a gap beyond the list is still counted', async (t) => {
  const number = missingMax * 3
  t.same(track([number], number + 1), { lost: number, duplicates: 0, outOfOrder: 0, received: 1 })
})

t.test('the first missing number is named', async (t) => {
  const tracker = new SequenceTracker()
  for (const number of [0, 1, 4, 2]) tracker.record(number)
  t.equal(tracker.firstMissing(), 3)
})

function ledger(delivered: number[], own: number[]): SeqLedger {
  const seqs = new SeqLedger()
  for (const seq of delivered) seqs.delivered(seq)
  for (const seq of own) seqs.own(seq)
  return seqs
}

t.test('seqs of deliveries and own acks fill each other up', async (t) => {
  t.equal(ledger([2, 3, 5], [1, 4, 6]).isComplete(), true)
  t.equal(ledger([], []).isComplete(), true)
  t.equal(ledger([7, 8, 9], []).isComplete(), true, 'a member sees a group from its join on')
})

t.test('seqs: a gap, a repeat, both at once, and none', async (t) => {
  t.equal(ledger([1, 2, 4], []).isComplete(), false)
  t.equal(ledger([1, 2, 3], [3]).isComplete(), false)
  t.equal(ledger([1, 2, 4], [4]).isComplete(), false)
  t.equal(ledger([1, 3, 2], []).notIncreasing, 1)
  t.equal(ledger([1, 2, 2], []).notIncreasing, 1)
  t.equal(ledger([1, -1, 2], []).withoutSeq, 1)
})
