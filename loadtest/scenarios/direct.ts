/**
 * Clients in pairs, each sends to its partner and receives what the partner sends: scenario `direct`, the trickle of
 * `connections`, and the proof in `reconnect-storm` that the sessions are back.
 */
import type { ClientPlan, Plan, ScenarioOptions } from './plan.js'

/** `prefix` keeps the users of this run apart from all others. `clients` is even. */
export function planDirect({ clients }: Pick<ScenarioOptions, 'clients'>, prefix: string): Plan {
  const name = (index: number): string => `${prefix}-${index}`
  const plans = Array.from({ length: clients }, (_, index): ClientPlan => {
    const partner = index ^ 1
    return {
      user: name(index),
      share: index >> 1,
      sends: [{ topic: `u/${name(partner)}/msg`, number: index }],
      hears: [partner],
      inboxes: [`u/${name(index)}/msg`],
      weight: 1,
      role: 'online',
    }
  })
  return { clients: plans, groups: [] }
}
