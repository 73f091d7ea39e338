/** Time against the server: tokens that run out while connected, and a wall clock that jumps back an hour. */
import t from 'tap'
import { eventually } from '../helper/eventually.js'
import { connectRaw } from '../helper/raw-client.js'
import { startServer, tokenOf } from '../helper/server-process.js'

t.setTimeout(60_000)

t.test('a token that expires while connected', async (t) => {
  const server = await startServer(t)
  const options = { port: server.mqttPort, clientId: 'phone', username: 'ann', keepaliveS: 0 }
  const other = await connectRaw({ ...options, username: 'bob', password: await tokenOf('bob') })
  const expiresMs = Date.now() + 2_000
  const client = await connectRaw({ ...options, password: await tokenOf('ann', 2) })
  await eventually(() => client.isClosed, { timeoutMs: 15_000, what: 'it is closed' })
  const lateMs = Date.now() - expiresMs
  t.ok(lateMs > -1_100, 'not before its time')
  t.comment(`closed ${lateMs} ms after the expiry`)
  t.notOk(other.isClosed, 'others stay')
})

// On SIGUSR2 the wall clock of the server goes back an hour.
const jumping =
  'let shift=0;const now=Date.now;Date.now=()=>now()+shift;process.on("SIGUSR2",()=>{shift=-3600000;process.stderr.write("jumped\\n")})'

t.test('the wall clock jumps back', async (t) => {
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(jumping)}` }
  const server = await startServer(t, env)
  const ann = await connectRaw({ port: server.mqttPort, clientId: 'phone', username: 'ann', password: await tokenOf('ann') })
  const history = () => server.history('ann', 'u/ann')
  for (let i = 0; i < 3; i++) await ann.publish('u/ann/msg', `${i}`, { qos: 1 })
  server.signal('SIGUSR2')
  await eventually(() => server.stderr.includes('jumped'))
  for (let i = 3; i < 6; i++) await ann.publish('u/ann/msg', `${i}`, { qos: 1 })
  t.notOk(ann.isClosed)
  await server.kill()
  await server.start()
  const again = await connectRaw({ port: server.mqttPort, clientId: 'phone', username: 'ann', password: await tokenOf('ann') })
  await again.publish('u/ann/msg', '6', { qos: 1 })
  const messages = await history()
  t.same(
    messages.map(({ body }) => body),
    ['0', '1', '2', '3', '4', '5', '6'],
  )
  const times = messages.map(({ ts }) => ts)
  t.same(
    times,
    [...times].sort((a, b) => a - b),
    'ts never goes backwards',
  )
})
