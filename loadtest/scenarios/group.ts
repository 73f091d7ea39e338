/**
 * Scenario `group`: a few members send to one group and all members receive. The last members may be frozen (they stop
 * reading for a while and must catch up); offline members belong to the group and are never there.
 */
import type { ClientPlan, Plan, ScenarioOptions } from './plan.js'

/** `echo` says whether a sender gets its own messages back, as it does on a broker where it subscribes to the group's topic. */
export function planGroup(options: ScenarioOptions, prefix: string, echo: 'echo' | 'no-echo'): Plan {
  const id = `${prefix}-team`
  const topic = `g/${id}/msg`
  const senders = Array.from({ length: options.senders }, (_, sender) => sender)
  const clients = Array.from({ length: options.members + options.offline }, (_, index): ClientPlan => {
    const offline = index >= options.members
    const frozen = !offline && index >= options.members - options.frozen
    const hears = echo === 'echo' ? senders : senders.filter((sender) => sender !== index)
    const plan: ClientPlan = {
      user: `${prefix}-${index}`,
      share: index,
      hears: offline ? [] : hears,
      inbox: topic,
      role: offline ? 'offline' : frozen ? 'frozen' : 'online',
    }
    return index < options.senders ? { ...plan, sends: { topic, sender: index } } : plan
  })
  const [owner = '', ...members] = clients.map(({ user }) => user)
  return { clients, group: { id, owner, members } }
}
