import { test } from 'tap'
import type { Bus, BusHandler } from '../broker/bus.js'
import type { Hub } from '../broker/hub.js'
import { createLogger } from '../broker/logger.js'
import { Signals } from '../broker/signals.js'
import { eventually } from './helper/eventually.js'

/** Two nodes whose buses hand over at once. */
function twoNodes(): { buses: [Bus, Bus]; say(message: Buffer): void } {
  const handlers: [Map<string, BusHandler>, Map<string, BusHandler>] = [new Map(), new Map()]
  const bus = (mine: 0 | 1): Bus => ({
    node: `node-${mine}`,
    isUp: true,
    publish: (kind, message) => handlers[mine === 0 ? 1 : 0].get(kind)?.(message, `node-${mine}`),
    on: (kind, handler) => void handlers[mine].set(kind, handler),
    onMissed: () => undefined,
    caughtUp: async () => undefined,
    close: () => undefined,
  })
  return { buses: [bus(0), bus(1)], say: (message) => handlers[0].get('signal')?.(message, 'node-1') }
}

function hubOf(heard: string[], sessions: Record<string, string[]>): Hub {
  const sessionsOf = (user: string) =>
    (sessions[user] ?? []).map((device) => ({
      device,
      sendControl: (topic: string, payload: string) => heard.push(`${user}/${device} 1 ${topic} ${payload}`),
      sendSignal: (topic: string, payload: string) => heard.push(`${user}/${device} 0 ${topic} ${payload}`),
    }))
  return { sessionsOf } as unknown as Hub
}

const logger = createLogger('silent')

test('an event reaches every session of the user on both nodes, but not the device that is left out', async (t) => {
  const heard: string[] = []
  const { buses } = twoNodes()
  const here = new Signals(hubOf(heard, { alice: ['phone', 'web'], bob: ['phone'] }), buses[0], logger)
  new Signals(hubOf(heard, { alice: ['desk', 'phone'] }), buses[1], logger)
  here.sendEvent('alice', { type: 'read', seq: 3 }, { device: 'phone' })
  t.same(heard.splice(0), ['alice/web 1 u/alice/event {"type":"read","seq":3}', 'alice/desk 1 u/alice/event {"type":"read","seq":3}'])
  here.sendSignal('bob', 'u/bob/typing', '{}')
  t.same(heard, ['bob/phone 0 u/bob/typing {}'])
})

test('positions of which two nodes tell never go back for a session, and are not told twice', async (t) => {
  const heard: string[] = []
  const { buses } = twoNodes()
  const here = new Signals(hubOf(heard, { alice: ['phone'] }), buses[0], logger)
  const there = new Signals(hubOf([], {}), buses[1], logger)
  const receipt = (delivered: number, read: number, user = 'bob') => ({ type: 'receipt', conv: `u/${user}`, user, delivered, read })
  const fields = { fields: ['delivered', 'read'] }
  here.sendPositions('alice', receipt(4, 0), fields)
  there.sendPositions('alice', receipt(3, 2), fields)
  there.sendPositions('alice', receipt(3, 1), fields)
  there.sendPositions('alice', receipt(1, 0, 'carol'), fields)
  here.sendPositions('alice', receipt(5, 2), fields)
  const told = heard.map((line) => JSON.parse(line.slice(line.indexOf('{'))) as object)
  t.same(told, [receipt(4, 0), receipt(4, 2), receipt(1, 0, 'carol'), receipt(5, 2)])
})

test('positions of which two nodes tell at once are told once in the time that is asked for, the last ones for certain', async (t) => {
  const heard: string[] = []
  const { buses } = twoNodes()
  const here = new Signals(hubOf(heard, { alice: ['phone'] }), buses[0], logger)
  const there = new Signals(hubOf([], {}), buses[1], logger)
  const everyMs = 60
  const receipt = (delivered: number, read: number) => ({ type: 'receipt', conv: 'u/bob', user: 'bob', delivered, read })
  const tell = (node: Signals, delivered: number, read: number): void =>
    node.sendPositions('alice', receipt(delivered, read), { fields: ['delivered', 'read'], everyMs })
  const startedMs = performance.now()
  tell(here, 1, 0)
  tell(there, 2, 0)
  tell(here, 1, 1)
  const told = (): object[] => heard.map((line) => JSON.parse(line.slice(line.indexOf('{'))) as object)
  t.same(told(), [receipt(1, 0)], 'the first at once')
  await eventually(() => heard.length > 1, { what: 'the second' })
  t.ok(performance.now() - startedMs >= everyMs - 2, 'not before its time')
  t.same(told(), [receipt(1, 0), receipt(2, 1)], 'both in one')
  tell(there, 2, 1)
  tell(there, 3, 1)
  t.equal(heard.length, 2, 'and then it has to wait again')
  await eventually(() => heard.length > 2, { what: 'the third' })
  t.same(told().at(-1), receipt(3, 1))
})

test('what another node sends and cannot be read is passed over', async (t) => {
  const heard: string[] = []
  const { buses, say } = twoNodes()
  new Signals(hubOf(heard, { alice: ['phone'] }), buses[0], logger)
  for (const text of [
    '',
    '{',
    '[]',
    '["alice","","t","p",2]',
    '["alice","","t",5,1]',
    '["alice","","t","{}",1,"seq"]',
    '["alice","","t","{}",1,[5]]',
    '["alice","","t","{}",1,["seq"],"soon"]',
    'null',
  ])
    say(Buffer.from(text))
  t.same(heard, [])
})
