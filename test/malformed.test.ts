/** Parley against malformed packets: every connection is judged right and nobody else notices. */
import t from 'tap'
import { testMalformed } from './conformance/malformed.js'
import { startOpenServer } from './helper/open-server.js'

t.test('malformed packets', async (t) => {
  const server = await startOpenServer(t)
  await testMalformed(t, { label: 'Parley', port: server.mqttPort ?? 0, wsPort: server.httpPort })
})
