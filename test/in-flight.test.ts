/** The ring of unacknowledged packets: ids, order of acknowledgement, growth and wrap-around, against a plain model. */
import t from 'tap'
import { controlsMax, hubPacketIdMax, InFlight } from '../broker/in-flight.js'
import { createRandom, newSeed } from './contract/entries.js'

t.test('the cursor moves with the acknowledged prefix only', async (t) => {
  const inFlight = new InFlight()
  const moved: string[] = []
  const note = { moveCursor: (conv: string, seq: number) => void moved.push(`${conv} ${seq}`) }
  const first = inFlight.addMessage('u/a/b', 1)
  const second = inFlight.addMessage('u/a/b', 2)
  inFlight.addOwn('u/a/b', 3)
  const control = inFlight.addControl()
  const fourth = inFlight.addMessage('g/x', 1)
  t.same([first, second, control, fourth], [1, 2, 4, 5])
  t.ok(inFlight.acknowledge(second, note))
  t.ok(inFlight.acknowledge(control, note))
  t.same(moved, [], 'nothing before the first is in')
  t.ok(inFlight.acknowledge(first, note))
  t.same(moved, ['u/a/b 1', 'u/a/b 2', 'u/a/b 3'])
  t.match(inFlight, { size: 1, messages: 1, controls: 0 })
  t.ok(inFlight.acknowledge(fourth, note))
  t.equal(moved.at(-1), 'g/x 1')
  t.match(inFlight, { size: 0, messages: 0 })
})

t.test('ids that are not in flight change nothing', async (t) => {
  const inFlight = new InFlight()
  t.notOk(inFlight.has(1))
  t.notOk(inFlight.acknowledge(1, undefined))
  const id = inFlight.addMessage('u/a/b', 7)
  inFlight.addOwn('u/a/b', 8)
  t.ok(inFlight.has(id))
  t.notOk(inFlight.has(id + 1), 'an own message is not on the wire')
  for (const wrong of [0, id + 1, id + 2, hubPacketIdMax]) t.notOk(inFlight.acknowledge(wrong, undefined), `${wrong}`)
  t.ok(inFlight.acknowledge(id, undefined))
  t.notOk(inFlight.acknowledge(id, undefined), 'a second PUBACK')
  t.equal(inFlight.size, 0)
})

t.test('too many controls get no id', async (t) => {
  const inFlight = new InFlight()
  const ids = Array.from({ length: controlsMax }, () => inFlight.addControl())
  t.equal(new Set(ids).size, controlsMax)
  t.equal(inFlight.addControl(), 0)
  inFlight.acknowledge(ids[5] as number, undefined)
  t.not(inFlight.addControl(), 0)
})

t.test('it says when it is full, before an id is given out twice', async (t) => {
  const inFlight = new InFlight()
  const stuck = inFlight.addMessage('u/a/b', 1)
  let seq = 1
  while (!inFlight.isFull) inFlight.addOwn('u/a/b', ++seq)
  const ids = new Set([stuck])
  for (let i = 0; i < controlsMax + 1_024; i++) {
    const id = i < controlsMax ? inFlight.addControl() : inFlight.addMessage('u/a/b', ++seq)
    if (ids.has(id)) return t.fail(`id ${id} is given out twice`)
    ids.add(id)
  }
  let last = 0
  inFlight.acknowledge(stuck, {
    moveCursor(_conv, moved) {
      last = moved
    },
  })
  t.ok(last > 10_000, 'one PUBACK ends it')
})

t.test('against a model', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const inFlight = new InFlight()
  let model: { id: number; conv: string | undefined; seq: number; acknowledged: boolean }[] = []
  const seqs = new Map<string, number>()
  for (let step = 0; step < 200_000; step++) {
    const conv = `g/${random(3)}`
    const seq = (seqs.get(conv) ?? 0) + 1
    const choice = random(6)
    if (choice < 3 && model.length < 300) {
      if (choice === 0) model.push({ id: inFlight.addControl(), conv: undefined, seq: 0, acknowledged: false })
      else {
        seqs.set(conv, seq)
        if (choice === 1) model.push({ id: inFlight.addMessage(conv, seq), conv, seq, acknowledged: false })
        else if (model.length > 0) {
          inFlight.addOwn(conv, seq)
          model.push({ id: -1, conv, seq, acknowledged: true })
        }
      }
    } else if (model.length > 0) {
      const chosen = model[random(4) === 0 ? random(model.length) : 0]
      if (chosen === undefined || chosen.acknowledged) continue
      chosen.acknowledged = true
      const expected: string[] = []
      while (model[0]?.acknowledged) {
        const { conv, seq } = model.shift() as (typeof model)[number]
        if (conv !== undefined) expected.push(`${conv} ${seq}`)
      }
      const moved: string[] = []
      const moves = { moveCursor: (conv: string, seq: number) => void moved.push(`${conv} ${seq}`) }
      if (!inFlight.acknowledge(chosen.id, moves)) return t.fail(`id ${chosen.id} is not known`)
      if (moved.join() !== expected.join()) return t.same(moved, expected)
    }
    const messages = model.filter((each) => !each.acknowledged && each.conv !== undefined).length
    if (step % 1_000 === 0) t.match(inFlight, { size: model.length, messages })
  }
  model = []
})
