/** Parley as an MQTT 3.1.1 broker, for topics that belong to the application. */
import t from 'tap'
import { createServer } from '../broker/server.js'
import { testConformance } from './conformance/conformance.js'

t.test('conformance with MQTT 3.1.1', async (t) => {
  const server = await createServer({
    host: '127.0.0.1',
    mqttPort: 0,
    httpPort: 0,
    dataDir: t.testdir(),
    anonymous: true,
    topics: [
      { topic: 'test/nosubscribe', publish: true },
      { topic: '#', publish: true, subscribe: true },
    ],
    rateLimit: undefined,
    logLevel: 'silent',
  })
  t.teardown(() => server.close())
  await testConformance(t, { label: 'Parley', port: server.mqttPort, wsPort: server.httpPort })
})
