/** The load client's WebSocket frames are those of RFC 6455, however the bytes are cut, and a server that speaks otherwise is named. */
import t from 'tap'
import { createRandom } from '../loadtest/scenarios/random.js'
import { encodeWebSocketFrame, parseUpgrade, WebSocketReader } from '../loadtest/web-socket-wire.js'

const sizes = [1, 125, 126, 127, 65_535, 65_536]

function serverFrame(payload: Buffer, first = 0x82): Buffer {
  const size = payload.length
  if (size < 126) return Buffer.concat([Buffer.from([first, size]), payload])
  const header = Buffer.alloc(size < 65_536 ? 4 : 10)
  header[0] = first
  header[1] = size < 65_536 ? 126 : 127
  if (size < 65_536) header.writeUInt16BE(size, 2)
  else header.writeBigUInt64BE(BigInt(size), 2)
  return Buffer.concat([header, payload])
}

function read(chunks: Buffer[]): { payload: Buffer; pings: string[]; closed: number } {
  const [parts, pings]: [Buffer[], string[]] = [[], []]
  let closed = 0
  const reader = new WebSocketReader()
  const handler = {
    payload: (bytes: Buffer, length: number) => parts.push(Buffer.from(bytes.subarray(0, length))),
    ping: (payload: Buffer) => pings.push(payload.toString()),
    closed: () => closed++,
  }
  for (const chunk of chunks) {
    const copy = Buffer.from(chunk)
    reader.push(copy, copy.length, handler)
    copy.fill(0xff)
  }
  return { payload: Buffer.concat(parts), pings, closed }
}

t.test('a frame is masked, and unmasks to what was sent', async (t) => {
  for (const size of sizes) {
    const payload = Buffer.alloc(size, 'abc')
    const frame = encodeWebSocketFrame(payload)
    t.equal(frame[0], 0x82, 'final and binary')
    t.ok(((frame[1] as number) & 0x80) !== 0, 'masked')
    const length = (frame[1] as number) & 127
    const maskAt = size < 126 ? 2 : size < 65_536 ? 4 : 10
    t.equal(length, size < 126 ? size : size < 65_536 ? 126 : 127)
    const mask = frame.subarray(maskAt, maskAt + 4)
    const plain = frame.subarray(maskAt + 4).map((byte, index) => byte ^ (mask[index % 4] as number))
    t.ok(payload.equals(plain), `${size} bytes`)
  }
})

t.test('frames in any pieces, pings among them', async (t) => {
  const seed = Date.now() % 1e6
  t.comment(`seed ${seed}`)
  const random = createRandom(seed)
  const payloads = sizes.map((size, index) => Buffer.alloc(size, index + 1))
  const stream = Buffer.concat(payloads.flatMap((payload, index) => [serverFrame(payload), serverFrame(Buffer.from(`p${index}`), 0x89)]))
  const expected = { payload: Buffer.concat(payloads), pings: payloads.map((_, index) => `p${index}`), closed: 0 }
  t.same(read([stream]), expected)
  t.same(read(Array.from(stream.subarray(0, 500), (byte) => Buffer.from([byte]))), read([stream.subarray(0, 500)]))
  for (let round = 0; round < 20; round++) {
    const chunks: Buffer[] = []
    for (let at = 0; at < stream.length; ) {
      const end = Math.min(stream.length, at + 1 + Math.floor(random() * 9_000))
      chunks.push(stream.subarray(at, end))
      at = end
    }
    t.same(read(chunks), expected)
  }
  t.equal(read([serverFrame(Buffer.alloc(0), 0x88)]).closed, 1)
})

t.test('what a server must not send is named', async (t) => {
  t.throws(() => read([Buffer.from([0x82, 0x81, 0, 0, 0, 0, 1])]), /masked/)
  t.throws(() => read([serverFrame(Buffer.from('x'), 0x81)]), /opcode 1; MQTT comes in binary frames/)
  t.throws(() => read([serverFrame(Buffer.alloc(126), 0x89)]), /control frame of 126 bytes/)
})

t.test('the upgrade', async (t) => {
  const key = 'dGhlIHNhbXBsZSBub25jZQ=='
  const good = 'HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'
  t.same(parseUpgrade(Buffer.from(`${good}xy`), key), { bodyAt: good.length })
  t.equal(parseUpgrade(Buffer.from(good.slice(0, -1)), key), undefined)
  t.throws(() => parseUpgrade(Buffer.from('HTTP/1.1 404 Not Found\r\n\r\n'), key), /answered with: HTTP\/1.1 404/)
  t.throws(() => parseUpgrade(Buffer.from(good.replace('s3p', 'xxx')), key), /wrong accept key/)
})
