/**
 * Scenario `group`: a few members send to one group and all members receive. The last members may be frozen (they stop
 * reading for a while and must catch up); offline members belong to the group and are never there.
 */
import type { ClientPlan, Echo, Plan, ScenarioOptions } from './plan.js'

export function planGroup(options: ScenarioOptions, prefix: string, echo: Echo): Plan {
  const id = `${prefix}-team`
  const topic = `g/${id}/msg`
  const senders = Array.from({ length: options.senders }, (_, sender) => sender)
  const clients = Array.from({ length: options.members + options.offline }, (_, index): ClientPlan => {
    const offline = index >= options.members
    const frozen = !offline && index >= options.members - options.frozen
    const hears = echo === 'echo' ? senders : senders.filter((sender) => sender !== index)
    return {
      user: `${prefix}-${index}`,
      share: index,
      sends: index < options.senders ? [{ topic, number: index }] : [],
      hears: offline ? [] : hears,
      inboxes: [topic],
      weight: 1,
      role: offline ? 'offline' : frozen ? 'frozen' : 'online',
    }
  })
  const [owner = '', ...members] = clients.map(({ user }) => user)
  return { clients, groups: [{ id, owner, members }] }
}
