/** What strangers can do before CONNECT costs them more than the server: lengths that lie, sockets that drip, silence. */
import { connect as connectTcp, type Socket } from 'node:net'
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { bytes, hex } from '../helper/packets.js'
import { connectRaw } from '../helper/raw-client.js'
import { peakRssBytes, type ServerProcess, startServer, tokenOf } from '../helper/server-process.js'

const megabyte = 1_048_576
t.setTimeout(90_000)

interface Stranger {
  socket: Socket
  isClosed: boolean
}

function stranger(server: ServerProcess): Promise<Stranger> {
  return new Promise((resolve) => {
    const socket = connectTcp({ port: server.mqttPort, host: '127.0.0.1' })
    const opened: Stranger = { socket, isClosed: false }
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      opened.isClosed = true
    })
    socket.on('connect', () => {
      socket.resume()
      resolve(opened)
    })
  })
}

const serve = async (server: ServerProcess): Promise<void> => {
  const client = await connectRaw({ port: server.mqttPort, clientId: 'phone', username: 'ann', password: await tokenOf('ann') })
  await client.publish('u/ann/msg', 'to myself', { qos: 1 })
  await client.disconnect()
}

t.test('a length of 256 MB before CONNECT', async (t) => {
  const server = await startServer(t)
  await serve(server)
  const before = server.rssBytes()
  const peak = await peakRssBytes(server, async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => stranger(server)))
    for (const { socket } of all) {
      socket.write(bytes(hex('10 ff ff ff 7f')))
      for (let i = 0; i < 4; i++) socket.write(Buffer.alloc(megabyte))
    }
    await eventually(() => all.every(({ isClosed }) => isClosed), { timeoutMs: 20_000, what: 'all are closed' })
  })
  t.ok(peak - before < 60 * megabyte, `it grew by ${Math.round((peak - before) / megabyte)} MB`)
  await serve(server)
})

t.test('500 sockets that send a byte a second', async (t) => {
  const server = await startServer(t, { PARLEY_CONNECT_TIMEOUT_MS: '3000' })
  const all = await Promise.all(Array.from({ length: 500 }, () => stranger(server)))
  const packet = bytes(hex('10 e8 3e 00 04'), 'MQTT', Buffer.alloc(8_000))
  let at = 0
  const drip = () => {
    for (const { socket, isClosed } of all) if (!isClosed) socket.write(packet.subarray(at, at + 1))
    at++
  }
  drip()
  const dripping = setInterval(drip, 1_000)
  t.teardown(() => clearInterval(dripping))
  await eventually(async () => (await server.metric('parley_connections')) === 500)
  await serve(server)
  t.pass('real users are served meanwhile')
  await eventually(() => all.every(({ isClosed }) => isClosed), { timeoutMs: 20_000, what: 'all are closed' })
  t.equal(await server.metric('parley_connections'), 0)
})

t.test('no CONNECT at all', async (t) => {
  const server = await startServer(t, { PARLEY_CONNECT_TIMEOUT_MS: '500' })
  const silent = await stranger(server)
  await eventually(() => silent.isClosed, { timeoutMs: 10_000, what: 'it is closed' })
  await serve(server)
})
