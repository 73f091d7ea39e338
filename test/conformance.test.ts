/** Parley as an MQTT 3.1.1 broker, for topics that belong to the application. */
import t from 'tap'
import { testConformance } from './conformance/conformance.js'
import { startOpenServer } from './helper/open-server.js'

t.test('conformance with MQTT 3.1.1', async (t) => {
  const server = await startOpenServer(t)
  await testConformance(t, { label: 'Parley', port: server.mqttPort ?? 0, wsPort: server.httpPort, speaks31: true })
})
