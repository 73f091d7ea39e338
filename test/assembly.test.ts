/** Packets put together from pieces of any size. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { Assembly } from '../broker/assembly.js'
import { createRandom, newSeed } from './contract/entries.js'

const seed = newSeed()
t.comment(`PARLEY_TEST_SEED=${seed}`)
const random = createRandom(seed)
const assembly = new Assembly()
t.equal(assembly.take().length, 0)
for (let round = 0; round < 50; round++) {
  const whole = randomBytes(random(20_000))
  for (let at = 0; at < whole.length; ) {
    const length = 1 + random(random(2) === 0 ? 3 : 3_000)
    assembly.append(whole.subarray(at, at + length))
    at += length
    if (assembly.length !== Math.min(at, whole.length)) t.fail('the length is wrong')
  }
  const taken = assembly.take()
  if (!taken.equals(whole)) t.fail(`round ${round} differs`)
  if (assembly.length !== 0) t.fail('it does not start anew')
}

const pieces = 4 * 1_048_576
const piece = Buffer.alloc(1)
const copied = { bytes: 0 }
const countingPiece = Object.assign(piece, {
  copy: (target: Buffer, at = 0) => {
    copied.bytes++
    target[at] = 7
    return 1
  },
})
for (let i = 0; i < pieces; i++) assembly.append(countingPiece)
t.equal(copied.bytes, pieces)
t.ok(
  assembly.take().every((byte) => byte === 7),
  'a packet in pieces of one byte',
)
