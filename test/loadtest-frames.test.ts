/** The load client's frame reader gives the same frames however the bytes are cut, and refuses what cannot be MQTT. */
import t from 'tap'
import { encodeConnect, encodeFrame, encodePublish, FrameReader, frameBytesMax, lengthBytes, packet } from '../loadtest/frames.js'

interface Seen {
  head: number
  body: string
}

function collect(chunks: Buffer[]): Seen[] {
  const seen: Seen[] = []
  const reader = new FrameReader()
  const handler = {
    frame: (head: number, bytes: Buffer, start: number, end: number) => {
      seen.push({ head, body: bytes.toString('latin1', start, end) })
    },
  }
  for (const chunk of chunks) {
    const copy = Buffer.from(chunk)
    reader.push(copy, copy.length, handler)
    copy.fill(0xff)
  }
  return seen
}

const sizes = [0, 1, 2, 126, 127, 128, 129, 300, 16_383, 16_384, 16_385]
const bodies = sizes.map((size) => Buffer.alloc(size, size % 251))
const stream = Buffer.concat(bodies.map((body) => encodeFrame(packet.publish, body)))
const expected = bodies.map((body) => ({ head: packet.publish, body: body.toString('latin1') }))

t.test('frames of every length of header', async (t) => {
  t.same(collect([stream]), expected)
  for (const size of sizes) t.equal(encodeFrame(packet.publish, Buffer.alloc(size)).length, 1 + lengthBytes(size) + size, `${size}`)
})

t.test('byte by byte, and cut at every place near a boundary', async (t) => {
  const chunks = Array.from(stream, (byte) => Buffer.from([byte]))
  t.same(collect(chunks), expected)
  const short = stream.subarray(0, 800)
  const whole = collect([short])
  for (let cut = 1; cut < short.length; cut++) {
    const cutInTwo = collect([short.subarray(0, cut), short.subarray(cut)])
    if (JSON.stringify(cutInTwo) !== JSON.stringify(whole)) t.fail(`cut at ${cut}`)
  }
})

t.test('random cuts', async (t) => {
  const seed = Date.now() % 1e6
  t.comment(`seed ${seed}`)
  let state = seed
  const random = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return Math.floor((state / 2 ** 31) * below)
  }
  for (let round = 0; round < 50; round++) {
    const chunks: Buffer[] = []
    for (let at = 0; at < stream.length; ) {
      const end = Math.min(stream.length, at + 1 + random(5_000))
      chunks.push(stream.subarray(at, end))
      at = end
    }
    t.same(collect(chunks), expected)
  }
})

t.test('only the given length of a chunk counts', async (t) => {
  const seen: number[] = []
  const handler = { frame: (head: number) => seen.push(head) }
  const reader = new FrameReader()
  const bytes = Buffer.from([packet.pingresp, 0, packet.connack, 0])
  reader.push(bytes, 2, handler)
  t.same(seen, [packet.pingresp])
})

t.test('what cannot be a broker is refused', async (t) => {
  t.throws(() => collect([Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01])]), /more than four bytes/)
  const tooLong = encodeFrame(packet.publish, Buffer.alloc(frameBytesMax + 1))
  t.throws(() => collect([tooLong]), /the limit is/)
})

t.test('CONNECT and PUBLISH are laid out as MQTT 3.1.1 says', async (t) => {
  const connect = encodeConnect({ clientId: 'a', clean: true, username: 'u', password: 'p' }, 60)
  t.equal(connect.toString('hex'), '101300044d51545404c2003c0001610001750001' + '70')
  t.equal(encodeConnect({ clientId: 'a', clean: false }, 60).toString('hex'), '100d00044d5154540400003c000161')
  t.equal(encodePublish('t', 258, Buffer.from('x')).toString('hex'), '32060001740102' + '78')
})
