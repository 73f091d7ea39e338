/** Typing: who hears that somebody is writing, who does not, and that it ends by itself. */
import t from 'tap'
import type { Actor } from '../helper/actor.js'
import { stage } from '../helper/stage.js'

const hearsTyping = async (actor: Actor, topic: string): Promise<unknown> =>
  (await actor.takes(`a signal on ${topic}`, (arrival) => arrival.topic === topic)).body

t.test('the peer hears on all devices that somebody writes, and that he stopped', async (t) => {
  const s = await stage(t)
  const [alice, bob] = await s.cast(['alice', 'bob'])
  const web = await s.actor('bob', { device: 'web' })
  await alice.isDenied('u/bob/typing', '', 'forbidden')
  await alice.sends('u/bob', 'hi')
  await bob.receives({ seq: 1 })
  await web.receives({ seq: 1 })
  await alice.publishes('u/bob/typing', '', 0)
  for (const device of [bob, web]) t.strictSame(await hearsTyping(device, 'u/bob/typing'), { from: 'alice', on: true })
  await alice.publishes('u/bob/typing', '{"on":false}', 0)
  for (const device of [bob, web]) t.strictSame(await hearsTyping(device, 'u/bob/typing'), { from: 'alice', on: false })
  await alice.publishes('u/bob/typing', '{"on":true}', 0)
  t.strictSame(await hearsTyping(bob, 'u/bob/typing'), { from: 'alice', on: true })
  t.strictSame(await hearsTyping(bob, 'u/bob/typing'), { from: 'alice', on: false }, 'it ends by itself')
  await alice.isDenied('u/bob/typing', '{"on":1}', 'invalid')
  await bob.calls('blocks.add', { user: 'alice' })
  await alice.isDenied('u/bob/typing', '', 'forbidden')
})

t.test('in a group those hear it who subscribed, and members only', async (t) => {
  const s = await stage(t)
  const [alice, bob, carol, eve] = await s.cast(['alice', 'bob', 'carol', 'eve'])
  await alice.calls('group.create', { group: 'team', members: ['bob', 'carol'] })
  for (const actor of [alice, bob, carol]) await actor.receives({ seq: 1 })
  await bob.client.subscribeAsync('g/team/typing')
  await alice.client.subscribeAsync('g/+/typing')
  await alice.publishes('g/team/typing', '')
  t.strictSame(await hearsTyping(bob, 'g/team/typing'), { from: 'alice', on: true })
  await carol.receivesNothing()
  await alice.receivesNothing()
  await bob.publishes('g/team/typing', '')
  t.strictSame(await hearsTyping(alice, 'g/team/typing'), { from: 'bob', on: true })
  await eve.isDenied('g/team/typing', '', 'forbidden')
  await bob.client.unsubscribeAsync('g/team/typing')
  await alice.publishes('g/team/typing', '{"on":false}')
  await bob.receivesNothing()
  await alice.calls('group.remove', { group: 'team', users: ['carol'] })
  await carol.isDenied('g/team/typing', '', 'forbidden')
})
