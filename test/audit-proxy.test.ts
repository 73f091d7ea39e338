/** The network of the audit: each harm is really done to the connection that it is meant for, and to no other one. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createProxy, type FaultyProxy } from '../audit/proxy.js'

/** An echo behind the proxy, and two clients of it. */
async function createStage(t: Test): Promise<{ proxy: FaultyProxy; port: (socket: Socket) => number; victim: Socket; other: Socket }> {
  const echo = createServer({ allowHalfOpen: false }, (socket) => socket.on('error', () => socket.destroy()).pipe(socket))
  echo.listen(0, '127.0.0.1')
  await once(echo, 'listening')
  const address = echo.address() as { port: number }
  const proxy = await createProxy(() => ({ mqttPort: address.port, httpPort: address.port }))
  const client = async (): Promise<Socket> => {
    const socket = connect({ port: proxy.mqttPort, host: '127.0.0.1', noDelay: true })
    socket.on('error', () => socket.destroy())
    await once(socket, 'connect')
    await roundTripMs(socket, 1)
    return socket
  }
  const [victim, other] = [await client(), await client()]
  t.teardown(async () => {
    for (const socket of [victim, other]) socket.destroy()
    await proxy.close()
    echo.close()
  })
  return { proxy, port: (socket) => socket.localPort ?? 0, victim, other }
}

/** Until all of it has come back. */
async function roundTripMs(socket: Socket, bytes: number): Promise<number> {
  const started = performance.now()
  socket.write(Buffer.alloc(bytes))
  for (let got = 0; got < bytes; ) got += ((await once(socket, 'data')) as [Buffer])[0].length
  return performance.now() - started
}

/** How it ends within a second, if it does. */
const fate = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve('lives'), 1_000)
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
    socket.once('close', () => {
      clearTimeout(timer)
      setImmediate(() => resolve('closed'))
    })
  })

t.test('delay and trickle slow one connection down until it is healed', async (t) => {
  const { proxy, port, victim, other } = await createStage(t)
  t.ok(proxy.harm(port(victim), { kind: 'delay', ms: 200 }))
  const [slow, quick] = await Promise.all([roundTripMs(victim, 10), roundTripMs(other, 10)])
  t.ok(slow >= 400, `${slow} ms there and back`)
  t.ok(quick < 200, `${quick} ms for the other one`)
  proxy.heal(port(victim))
  t.ok((await roundTripMs(victim, 10)) < 200)
  proxy.harm(port(victim), { kind: 'trickle', bytesPerSecond: 2_000 })
  const trickled = await roundTripMs(victim, 1_000)
  t.ok(trickled >= 400, `${trickled} ms for 1,000 bytes at 2,000 a second`)
})

t.test('cut and reset end one connection', async (t) => {
  const { proxy, port, victim, other } = await createStage(t)
  const [cut, reset] = [fate(victim), fate(other)]
  proxy.harm(port(victim), { kind: 'cut' })
  t.equal(await cut, 'closed')
  proxy.harm(port(other), { kind: 'reset' })
  t.equal(await reset, 'ECONNRESET')
})

t.test('a silenced connection passes nothing, neither end is told, and healing ends it', async (t) => {
  const { proxy, port, victim, other } = await createStage(t)
  const number = port(victim)
  proxy.harm(number, { kind: 'silence' })
  victim.write('hello?')
  const answer = once(victim, 'data').then(() => 'an answer')
  t.equal(await Promise.race([answer, fate(victim)]), 'lives')
  t.ok((await roundTripMs(other, 10)) < 500)
  t.ok(proxy.wasSilent(number))
  const end = fate(victim)
  proxy.heal(number)
  t.equal(await end, 'closed')
  t.notOk(proxy.harm(1, { kind: 'cut' }), 'there is no connection from that port')
})
