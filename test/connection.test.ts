/** A connection on its own: when it reads its socket. Its protocol is under test in conversations/ and conformance/. */
import t from 'tap'
import type { AedesStream } from '../broker/aedes-stream.js'
import { readConfig } from '../broker/config.js'
import { Connection, type ConnectionWorld } from '../broker/connection.js'
import type { Transport, TransportEvents } from '../broker/transport.js'
import { connect, pingreq, publish, subscribe } from './helper/packets.js'

class FakeTransport implements Transport {
  readonly kind = 'tcp'
  readonly address = ''
  readonly unsentBytes = 0
  isPaused = false
  isKeptAlive = false
  events: TransportEvents | undefined

  listen(events: TransportEvents): void {
    this.events = events
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }

  keepAlive(): void {
    this.isKeptAlive = true
  }

  write(): void {
    // Nobody reads it.
  }

  end(): void {
    // There is no socket.
  }

  destroy(): void {
    // There is no socket.
  }
}

const nothing = (): void => undefined

t.test('it is not read from the first packet for Aedes on until Aedes is ready', async (t) => {
  const transport = new FakeTransport()
  const given: Buffer[] = []
  const world = {
    config: readConfig({}, {}),
    logger: { debug: nothing },
    hub: { start: nothing, close: nothing },
    plugins: {
      connected: nothing,
      disconnected: nothing,
      authorizePublish: nothing,
      authorizeOpenSubscribe: () => true,
      authorizeOpenPublish: () => true,
    },
    // As Aedes does, it reads as soon as there is something, and takes its time to be ready.
    adapter: {
      isNeededBy: () => false,
      handle: (_: Connection, stream: AedesStream) => stream.on('readable', () => given.push(stream.read() as Buffer)),
    },
    topics: { get: () => ({ topic: 'a', target: { kind: 'open' } }) },
    admit: async () => 0,
    deadlines: { watch: nothing, forget: nothing },
    onClosed: nothing,
  } as unknown as ConnectionWorld
  const connection = new Connection(transport, world)
  transport.events?.data(connect({ clientId: 'phone', username: 'alice', password: 'x', keepaliveS: 0 }))
  t.notOk(transport.isPaused, 'nothing more has come')
  transport.events?.data(pingreq)
  t.ok(transport.isPaused, 'more has come while it is admitted')
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(transport.isPaused, 'it is open')
  t.ok(transport.isKeptAlive, 'its client need not speak')
  t.equal(given.length, 0)
  transport.events?.data(Buffer.concat([subscribe(1, ['a', 1]), publish({ topic: 'a', payload: 'x' })]))
  transport.events?.data(publish({ topic: 'a', payload: 'y' }))
  t.ok(transport.isPaused, 'more has come while Aedes opens its session')
  t.equal(given.length, 1, 'the CONNECT')
  connection.connected([])
  t.notOk(transport.isPaused)
  t.same(
    given.map((packet) => (packet[0] as number) >> 4),
    [1, 8, 3, 3],
  )
  connection.close('the test is over')
})
