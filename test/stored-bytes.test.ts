/** What is written byte by byte is what JSON.stringify and the encoder of packets give: stored forms and acks, alone and among other packets. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { digitsOf, isPlain, writeDigits } from '../broker/ascii.js'
import { encodePublishOnce, Frame } from '../broker/mqtt/encode.js'
import { Outbox } from '../broker/outbox.js'
import { StoredAck } from '../broker/stored-ack.js'
import { storedForm, tailOf } from '../broker/stored-form.js'
import type { Transport } from '../broker/transport.js'
import { createRandom, newSeed } from './contract/entries.js'

type Random = (below: number) => number

const edges = [0, 1, 9, 10, 99, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 10 ** 15 - 1, 10 ** 15, 2 ** 53 - 2, 2 ** 53 - 1]

function numberOf(random: Random): number {
  if (random(3) === 0) return edges[random(edges.length)] as number
  const number = random(2 ** 22) * 2 ** 31 + random(2 ** 31)
  return Math.floor(number / 10 ** random(16))
}

function idOf(random: Random): string {
  const below = [0x7f, 0x7f, 0x80, 0x100, 0x10000][random(5)] as number
  return Array.from({ length: random(65) }, () => String.fromCharCode(random(below))).join('')
}

function ackOf(random: Random, user: string, conv: string): { ack: StoredAck; expected: Buffer } {
  const [id, seq, ts, dup] = [idOf(random), numberOf(random), numberOf(random), random(2) === 0]
  const packetId = random(3) === 0 ? 0 : 1 + random(65_535)
  const json = JSON.stringify(dup ? { id, conv, seq, ts, dup } : { id, conv, seq, ts })
  return { ack: new StoredAck(user, id, conv, seq, ts, dup, packetId), expected: encodePublishOnce(`u/${user}/ack`, json, packetId) }
}

t.test('digits are those of String', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const powers = Array.from({ length: 16 }, (_, i) => [10 ** i - 1, 10 ** i, 10 ** i + 1]).flat()
  for (const number of [...edges, ...powers, ...Array.from({ length: 20_000 }, () => numberOf(random))]) {
    const out = Buffer.alloc(20, '-')
    const digits = digitsOf(number)
    const end = writeDigits(out, 2, number, digits)
    if (out.toString() !== `--${number}`.padEnd(20, '-') || end !== 2 + digits) return t.equal(out.toString(), `--${number}`)
  }
  t.pass()
})

t.test('plain is what JSON leaves as it is, a byte a character', async (t) => {
  for (let code = 0; code < 0x10000; code++) {
    const text = String.fromCharCode(code)
    if (isPlain(text) && (JSON.stringify(text) !== `"${text}"` || Buffer.byteLength(text) !== 1)) t.fail(`U+${code.toString(16)}`)
    if (/^[\w.~ {}:,'-]$/.test(text)) t.ok(isPlain(text), text)
  }
  t.ok(isPlain(''))
})

t.test('stored forms', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  for (let i = 0; i < 5_000; i++) {
    const [seq, ts] = [numberOf(random), numberOf(random)]
    const fields = { from: 'alice', to: 'bob', id: idOf(random), type: 'text', body: idOf(random).repeat(1 + random(20)) }
    const tail = Buffer.from(JSON.stringify(fields).slice(1, -1))
    const cut = random(tail.length)
    const stored = i % 2 === 0 ? storedForm(seq, ts, undefined, tail) : storedForm(seq, ts, tail.subarray(0, cut), tail.subarray(cut))
    if (stored.toString() !== JSON.stringify({ seq, ts, ...fields }))
      return t.equal(stored.toString(), JSON.stringify({ seq, ts, ...fields }))
    if (!tailOf(stored).equals(tail)) return t.fail('the tail is found again')
  }
  t.pass()
})

t.test('acks, whatever the id, the numbers and the length', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const lengths = new Set<number>()
  for (let i = 0; i < 10_000; i++) {
    // A conversation longer than any real one reaches the remaining lengths of two and three bytes.
    const conv = i % 100 === 0 ? `g/${'x'.repeat(16_200 + random(400))}` : `u/${'b'.repeat(1 + random(90))}`
    const { ack, expected } = ackOf(random, 'a'.repeat(1 + random(64)), conv)
    const at = random(5)
    const out = Buffer.alloc(expected.length + 10, 0xaa)
    const end = ack.writeTo(out, at)
    const isRight = ack.length === expected.length && end === at + expected.length && out.subarray(at, end).equals(expected)
    if (!isRight) return t.same(out.subarray(at, end).toString(), expected.toString())
    if (out.subarray(0, at).some((byte) => byte !== 0xaa) || out.subarray(end).some((byte) => byte !== 0xaa))
      return t.fail('it writes beside its place')
    lengths.add([...expected.subarray(1, 5)].findIndex((byte) => byte < 0x80) + 1)
  }
  t.same([...lengths].sort(), [1, 2, 3])
})

t.test('at the edges of the remaining length', async (t) => {
  for (let conv = 50; conv < 16_400; conv = conv === 140 ? 16_270 : conv + 1) {
    const address = 'c'.repeat(conv)
    for (const packetId of [0, 7]) {
      const ack = new StoredAck('me', 'id', address, 5, 6, false, packetId)
      const expected = encodePublishOnce('u/me/ack', JSON.stringify({ id: 'id', conv: address, seq: 5, ts: 6 }), packetId)
      const out = Buffer.alloc(ack.length)
      if (ack.writeTo(out, 0) !== expected.length || !out.equals(expected)) t.fail(`${conv} bytes`)
    }
  }
  t.pass()
})

t.test('acks leave an outbox among frames and packets, in order, and PUBACKs behind them', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const payload = '{"seq":1}'
  const frame = new Frame('g/x/msg', Buffer.from(payload))
  for (let round = 0; round < 300; round++) {
    const writes: Buffer[] = []
    const outbox = new Outbox({ unsentBytes: random(2), write: (bytes: Buffer) => writes.push(bytes) } as unknown as Transport)
    const pubacks: Buffer[] = []
    const parts: Buffer[] = []
    for (let i = random(400); i >= 0; i--) {
      const packetId = 1 + random(65_535)
      const kind = random(4)
      if (kind === 0) {
        const { ack, expected } = ackOf(random, 'me', 'u/you')
        outbox.sendAck(ack)
        parts.push(expected)
      } else if (kind === 1) {
        outbox.sendFrame(frame, packetId)
        parts.push(encodePublishOnce('g/x/msg', payload, packetId))
      } else if (kind === 2) {
        const bytes = Buffer.alloc(1 + random(9), packetId)
        outbox.sendBytes(bytes)
        parts.push(bytes)
      } else {
        outbox.sendPuback(packetId)
        pubacks.push(Buffer.of(0x40, 2, packetId >> 8, packetId & 0xff))
      }
    }
    const expected = Buffer.concat([...parts, ...pubacks])
    t.equal(outbox.unsentBytes >= expected.length, true)
    await turn()
    if (writes.length !== 1 || !writes[0]?.equals(expected)) return t.same(writes, [expected])
    if (round % 10 === 0) {
      outbox.sendAck(ackOf(random, 'me', 'u/you').ack)
      outbox.clear()
      await turn()
      t.equal(writes.length, 1, 'what was cleared does not leave')
    }
  }
})
