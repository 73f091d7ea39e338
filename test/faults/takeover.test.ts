/** Many connects of one device at the same moment: one of them stays and is served, the others are closed, no session leaks. */
import t from 'tap'
import { createRandom, newSeed } from '../contract/entries.js'
import { eventually } from '../helper/eventually.js'
import { connect } from '../helper/packets.js'
import { type Message, RawClient } from '../helper/raw-client.js'
import { startServer, tokenOf } from '../helper/server-process.js'

const rounds = 200
t.setTimeout(90_000)

t.test('two connections with one client id', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const server = await startServer(t)
  const password = await tokenOf('bob')
  const ann = await RawClient.open({ port: server.mqttPort })
  await ann.connect({ clientId: 'phone', username: 'ann', password: await tokenOf('ann') })
  let isReady = false
  let living: RawClient[] = []
  for (let round = 0; round < rounds; round++) {
    const racers = await Promise.all(
      [0, 1].map(() => {
        const isWs = random(3) === 0
        return RawClient.open({ port: isWs ? server.httpPort : server.mqttPort, transport: isWs ? 'ws' : 'tcp' })
      }),
    )
    const clean = random(2) === 0
    for (const racer of racers) racer.send(connect({ clientId: 'phone', username: 'bob', password, clean }))
    living = living.concat(racers)
    await eventually(
      () => {
        living = living.filter(({ isClosed }) => !isClosed)
        return living.length <= 1 && (living.length === 0 || living[0]?.received.some(({ cmd }) => cmd === 'connack'))
      },
      { everyMs: 1, what: `round ${round} is decided` },
    )
    const [winner] = living
    if (winner === undefined) return t.fail(`round ${round}: nobody stayed`)
    if (!isReady) await winner.ping()
    isReady = true
    const body = `${round}`
    await ann.publish('u/bob/msg', body, { qos: 1 })
    await winner.waitFor(
      (packet): packet is Message => packet.cmd === 'publish' && packet.payload.toString().includes(`"body":"${body}"`),
      {
        what: `message ${round} to who stayed`,
      },
    )
  }
  t.equal(await server.metric('parley_sessions'), 2)
  t.equal(await server.metric('parley_connections'), 2)
  await living[0]?.ping()
})
