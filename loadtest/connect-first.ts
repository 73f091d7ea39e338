/**
 * Users who connect and leave before those that are measured: a broker on a virtual machine compiles what it runs often, so its first
 * thousands of connects take twice as long as later ones.
 */
import { Connector } from './connector.js'
import { inParallel } from './in-parallel.js'
import type { LoadJob } from './orders.js'
import type { ClientPlan } from './scenarios/plan.js'

export async function connectFirst(job: LoadJob, count: number): Promise<void> {
  const connector = new Connector(job)
  const users = Array.from({ length: count }, (_, place): ClientPlan => {
    const user = `${job.prefix}-first-${job.process}-${place}`
    return { user, share: job.process, place, sends: [], hears: [], inboxes: [], weight: 0, role: 'online' }
  })
  connector.signFor(users)
  await inParallel(users, async (plan) => {
    const { client } = await connector.connectPatiently(plan)
    await client.disconnect()
  })
}
