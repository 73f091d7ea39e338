/** Two nodes on one store: of one device that connects to both at the same moment exactly one session stays, whatever comes first. */
import t from 'tap'
import type { Bus, BusHandler } from '../broker/bus.js'
import { Hub } from '../broker/hub.js'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { createTakeover } from '../broker/takeover.js'
import { createRandom, newSeed } from './contract/entries.js'
import { eventually } from './helper/eventually.js'
import { newDir } from './helper/new-dir.js'

const logger = createLogger('silent')
const races = 400
const ignore = (): void => undefined

/** Buses whose messages arrive some turns later. */
function busesOf(nodes: number, random: (below: number) => number): Bus[] {
  const handlers = Array.from({ length: nodes }, () => new Map<string, BusHandler>())
  return handlers.map((mine, at) => ({
    node: `node-${at}`,
    isUp: true,
    onMissed: () => undefined,
    caughtUp: async () => undefined,
    close: async () => undefined,
    publish: (kind, message) => {
      for (const theirs of handlers) if (theirs !== mine) setTimeout(() => theirs.get(kind)?.(message, `node-${at}`), random(4))
    },
    on: (kind, handler) => void mine.set(kind, handler),
  }))
}

t.test(`one session stays in each of ${races} races`, async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const store = await createLmdbStore({ dir: await newDir(t) })
  t.teardown(() => store.close())
  const hubs = busesOf(2, random).map((bus) => {
    const told = createTakeover(bus, () => hub, logger)
    const hub: Hub = new Hub({
      store,
      logger,
      limits: { window: 100, socketBytesMax: 1_000_000 },
      backlog: { sessionMax: 1_000, conversationMax: 1_000 },
      opened: told,
    })
    return hub
  })
  const connect = async (hub: Hub, device: string): Promise<void> => {
    const outlet = { unsentBytes: 0, sendFrame: ignore, sendAck: ignore, sendBytes: ignore, close: ignore }
    await hub.open({ user: 'bob', device, persistent: random(2) === 0, outlet }).catch(({ code }) => t.equal(code, 'unavailable'))
  }
  for (let race = 0; race < races; race++) {
    await Promise.all([...hubs, ...hubs].map((hub) => connect(hub, `d${race}`)))
  }
  await eventually(() => hubs.reduce((sum, hub) => sum + hub.sessionCount, 0) === races, { what: 'one of each stays' })
  const devices = hubs.flatMap((hub) => hub.sessionsOf('bob').map(({ device }) => device))
  t.equal(new Set(devices).size, races)
})
