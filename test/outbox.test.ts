/** What one turn of the event loop collects leaves as one write, in order, with each receiver's own packet id. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { encodePublishOnce, Frame } from '../broker/mqtt/encode.js'
import { Outbox } from '../broker/outbox.js'
import type { Transport } from '../broker/transport.js'

class FakeTransport implements Transport {
  readonly kind = 'tcp'
  readonly address = ''
  unsentBytes = 0
  readonly writes: Buffer[] = []
  /** What was handed over stays here, as with a peer that does not read. */
  isStuck = false
  listen(): void {
    throw new Error('not listened to here')
  }
  write(bytes: Buffer): void {
    this.writes.push(this.isStuck ? bytes : Buffer.from(bytes))
    if (this.isStuck) this.unsentBytes += bytes.length
  }
  pause(): void {
    throw new Error('not paused here')
  }
  resume(): void {
    throw new Error('not resumed here')
  }
  keepAlive(): void {
    throw new Error('not asked for here')
  }
  end(): void {
    throw new Error('not ended here')
  }
  destroy(): void {
    throw new Error('not destroyed here')
  }
}

const payload = '{"seq":1}'
const frameOf = (packetId: number): Buffer => encodePublishOnce('g/x/msg', payload, packetId)
const frame = new Frame('g/x/msg', Buffer.from(payload))
const idOf = (bytes: Buffer): number => bytes.readUInt16BE(frame.length - payload.length - 2)

t.test('one write a turn', async (t) => {
  const transport = new FakeTransport()
  const outbox = new Outbox(transport)
  outbox.sendFrame(frame, 0x0102)
  outbox.sendBytes(Buffer.from('abc'))
  outbox.sendPuback(0xfffe)
  t.equal(outbox.unsentBytes, frameOf(1).length + 3 + 4)
  t.equal(transport.writes.length, 0)
  await turn()
  t.equal(transport.writes.length, 1)
  const [bytes] = transport.writes as [Buffer]
  t.equal(idOf(bytes), 0x0102)
  t.equal(bytes.subarray(-7, -4).toString(), 'abc')
  t.same(bytes.subarray(-4), Buffer.from([0x40, 2, 0xff, 0xfe]))
  t.equal(outbox.unsentBytes, 0)
  await turn()
  t.equal(transport.writes.length, 1, 'nothing more, nothing written')
})

t.test('a frame that many share is written for each', async (t) => {
  const receivers = Array.from({ length: 500 }, () => new FakeTransport())
  for (const [index, transport] of receivers.entries()) new Outbox(transport).sendFrame(frame, index + 1)
  await turn()
  const wrong = receivers.filter(({ writes }, index) => writes.length !== 1 || !frameOf(index + 1).equals(writes[0] as Buffer))
  t.same(wrong, [])
})

t.test('what was handed over and has not left is never overwritten by later writes', async (t) => {
  const transport = new FakeTransport()
  const other = new FakeTransport()
  const outbox = new Outbox(transport)
  for (let i = 1; i <= 3_000; i++) {
    transport.isStuck = i % 5 > 0
    if (!transport.isStuck) transport.unsentBytes = 0
    outbox.sendFrame(frame, i)
    outbox.flush()
    if (i % 7 === 0) new Outbox(other).sendFrame(frame, 9)
    if (i % 100 === 0) await turn()
  }
  t.same(
    transport.writes.map(idOf).filter((id, index) => id !== index + 1),
    [],
  )
})

t.test('after clear nothing leaves', async (t) => {
  const transport = new FakeTransport()
  const outbox = new Outbox(transport)
  outbox.sendFrame(frame, 1)
  outbox.clear()
  await turn()
  t.equal(transport.writes.length, 0)
  outbox.sendPuback(1)
  await turn()
  t.equal(transport.writes.length, 1, 'it can still be used')
})
