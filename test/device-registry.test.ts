/** The registry in process, and the one in Redis as a single node, under the same contract. */
import t from 'tap'
import { LocalDeviceRegistry } from '../broker/local-device-registry.js'
import { testDeviceRegistry } from './contract/device-registry.js'

t.test('in process', async (t) => {
  testDeviceRegistry(t, async (t, graceMs) => {
    const registry = new LocalDeviceRegistry({ graceMs })
    t.teardown(() => registry.close())
    return registry
  })
})
