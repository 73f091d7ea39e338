/** A message that has to be prepared holds up all that its sender sends behind it, and none of it overtakes what was given up meanwhile. */
import t from 'tap'
import type { Operation } from '../broker/operation.js'
import type { PluginServer, PublishOutcome, RoutedPublish } from '../broker/plugin.js'
import { createMessages } from '../plugins/messages.js'
import { eventually } from './helper/eventually.js'

interface Messages {
  submitted: Operation[]
  /** By message id. */
  outcomes: Map<string, PublishOutcome['kind']>
  says(id: string, type: 'text' | 'recall'): void
  /** Ends the preparing that has begun. */
  prepared(): void
  preparing(): number
}

function open(): Messages {
  const submitted: Operation[] = []
  const outcomes = new Map<string, PublishOutcome['kind']>()
  const waiting: (() => void)[] = []
  const server = {
    log: { submit: (operation: Operation) => submitted.push(operation) },
    config: { recallMs: 1_000 },
    preparerOf: (type: string) => (type === 'recall' ? () => new Promise<void>((resolve) => waiting.push(resolve)) : undefined),
  }
  const plugin = createMessages(server as unknown as PluginServer)
  const caller = { user: 'alice', device: 'phone' }
  const says = (id: string, type: string): void => {
    const body = type === 'recall' ? { seq: 1 } : 'hi'
    const publish: RoutedPublish = {
      ...{ topic: 'u/bob/msg', id: 'bob', payload: Buffer.from(JSON.stringify({ id, type, body })), caller, epoch: 1 },
      ...{ qos: 1, retain: false, dup: false, packetId: 1, done: ({ kind }) => outcomes.set(id, kind), reply: () => undefined },
    }
    plugin.routes?.['u/{peer}/msg']?.(publish)
  }
  return { submitted, outcomes, says, prepared: () => waiting.shift()?.(), preparing: () => waiting.length }
}

const idsOf = ({ submitted }: Messages): string[] => submitted.map(({ id }) => id)

/** The second of three is being prepared. */
async function heldUp(): Promise<Messages> {
  const messages = open()
  messages.says('c1', 'text')
  messages.says('c2', 'recall')
  messages.says('c3', 'text')
  await eventually(() => messages.preparing() === 1)
  return messages
}

t.test('what is sent behind a message that is being prepared keeps its place', async (t) => {
  const messages = await heldUp()
  t.same(idsOf(messages), ['c1'])
  messages.prepared()
  await eventually(() => messages.submitted.length === 3)
  t.same(idsOf(messages), ['c1', 'c2', 'c3'])
})

t.test('when one before them is given up meanwhile, so are they: their sender sends them again, in order', async (t) => {
  const messages = await heldUp()
  messages.submitted[0]?.failed('the store cannot be written')
  messages.prepared()
  await eventually(() => messages.outcomes.size === 3)
  t.same(
    [...messages.outcomes],
    ['c1', 'c2', 'c3'].map((id) => [id, 'unavailable']),
  )
  t.same(idsOf(messages), ['c1'])
})
