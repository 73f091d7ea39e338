/** What nodes tell each other of receipts, so that none says less than another has told. */
import t from 'tap'
import type { Bus, BusHandler } from '../broker/bus.js'
import { Delivered } from '../broker/delivered.js'
import { createLogger } from '../broker/logger.js'
import type { Plugin, PluginServer } from '../broker/plugin.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { createReceipts } from '../plugins/receipts.js'
import { append } from './contract/entries.js'
import { eventually } from './helper/eventually.js'

const logger = createLogger('silent')

t.test('what was acknowledged on one node the other knows before it is in the store, but not of a crowd in a group', async (t) => {
  const store = { ...(await createLmdbStore({ dir: t.testdir(), logger })), isShared: true }
  t.teardown(() => store.close())
  await store.log.append([append('u/alice/bob', 0, 9)])
  const handlers = new Map<string, BusHandler>()
  const bus = (publish: Bus['publish'], on: Bus['on']): Bus => ({
    node: 'n',
    isUp: true,
    publish,
    on,
    onMissed: () => undefined,
    caughtUp: async () => undefined,
    close: () => undefined,
  })
  const node = (place: Bus): { delivered: Delivered; plugin: Plugin } => {
    // Nothing of it is written: both go by what they hear.
    const records = { ...store.records, get: async () => undefined, getAll: async (keys: readonly string[]) => keys.map(() => undefined) }
    const delivered = new Delivered({ records: records as typeof store.records, logger, moved: () => undefined })
    const signals = { sendPositions: () => undefined }
    return { delivered, plugin: createReceipts({ store, delivered, signals, bus: place, logger } as unknown as PluginServer) }
  }
  const there = node(
    bus(
      () => undefined,
      (kind, handler) => void handlers.set(kind, handler),
    ),
  )
  let frames = 0
  const tellThere: Bus['publish'] = (kind, message) => {
    frames++
    handlers.get(kind)?.(message, 'n')
  }
  const here = node(bus(tellThere, () => undefined))

  here.delivered.heard('bob', 'u/alice/bob', 7)
  here.plugin.onDelivered?.('bob', 'u/alice/bob', 7)
  here.plugin.onDelivered?.('carol', 'g/team', 3)
  await eventually(() => frames > 0, { what: 'it was told' })
  t.equal(frames, 1, 'in one frame')
  t.equal(await there.delivered.of('bob', 'u/alice/bob'), 7)
  t.equal(await there.delivered.of('carol', 'g/team'), 3)
  there.delivered.heard('carol', 'g/team', 2)
  t.equal(await there.delivered.of('carol', 'g/team'), 3, 'it does not go back')

  for (let at = 0; at < 600; at++) here.plugin.onDelivered?.(`member-${at}`, 'g/large', 5)
  await eventually(() => frames > 1, { what: 'some of them are told' })
  t.equal(await there.delivered.of('member-0', 'g/large'), 5)
  t.equal(await there.delivered.of('member-599', 'g/large'), 0, 'the others are found in the store')
})
