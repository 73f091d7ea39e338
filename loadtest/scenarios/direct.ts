/** Scenario `direct`: clients in pairs, each sends to its partner and receives what the partner sends. */
import type { ClientPlan, Plan, ScenarioOptions } from './plan.js'

/** `prefix` keeps the users of this run apart from all others. `clients` is even. */
export function planDirect({ clients }: ScenarioOptions, prefix: string): Plan {
  const name = (index: number): string => `${prefix}-${index}`
  const plans = Array.from({ length: clients }, (_, index): ClientPlan => {
    const partner = index ^ 1
    return {
      user: name(index),
      share: index >> 1,
      sends: { topic: `u/${name(partner)}/msg`, sender: index },
      hears: [partner],
      inbox: `u/${name(index)}/msg`,
      role: 'online',
    }
  })
  return { clients: plans }
}
