/** Parley against malformed packets: every connection is judged right and nobody else notices. */
import t from 'tap'
import { createServer } from '../broker/server.js'
import { testMalformed } from './conformance/malformed.js'

t.test('malformed packets', async (t) => {
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
  await testMalformed(t, { label: 'Parley', port: server.mqttPort, wsPort: server.httpPort })
})
