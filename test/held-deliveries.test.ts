/** What was held for a session that returns goes before what comes right after. */
import type { Client } from 'aedes'
import t from 'tap'
import { HeldDeliveries } from '../broker/held-deliveries.js'
import { eventually } from './helper/eventually.js'

/** Like Aedes' own, it writes in a later turn. */
function newClient() {
  const written: number[] = []
  const deliver = (packet: { n: number }): void => void setImmediate(() => written.push(packet.n))
  const inner = { closed: false, close: () => undefined, deliver0: deliver, deliverQoS: deliver }
  return { written, inner, client: inner as unknown as Client }
}

t.test('what is held keeps its place before what is delivered after the release', async (t) => {
  const { written, inner, client } = newClient()
  const held = new HeldDeliveries()
  held.hold(client)
  for (const n of [1, 2, 3]) inner.deliverQoS({ n })
  t.same(written, [])
  held.release(client)
  inner.deliverQoS({ n: 4 })
  await eventually(() => written.length === 4)
  t.same(written, [1, 2, 3, 4])
})
