/**
 * Scenario `backlog`: sessions that are away while writers send to each of them, and that come back to it all at once. Each session
 * hears one writer, so it has one conversation.
 */
import type { ClientPlan, Plan, ScenarioOptions } from './plan.js'

/** Stream n is what the returning session n hears. */
export function planBacklog({ clients, senders }: Pick<ScenarioOptions, 'clients' | 'senders'>, prefix: string): Plan {
  const name = (receiver: number): string => `${prefix}-${receiver}`
  const inbox = (receiver: number): string => `u/${name(receiver)}/msg`
  const receivers = Array.from(
    { length: clients },
    (_, index): ClientPlan => ({
      user: name(index),
      share: index,
      sends: [],
      hears: [index],
      inboxes: [inbox(index)],
      weight: 0,
      role: 'returning',
    }),
  )
  const writers = Array.from({ length: senders }, (_, writer): ClientPlan => {
    const mine = receivers.map((_, index) => index).filter((index) => index % senders === writer)
    return {
      user: `${prefix}-writer-${writer}`,
      share: writer,
      sends: mine.map((index) => ({ topic: inbox(index), number: index })),
      hears: [],
      inboxes: [],
      weight: 1,
      role: 'online',
    }
  })
  return { clients: [...receivers, ...writers], groups: [] }
}
