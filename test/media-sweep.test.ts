/** The sweep of media beside what else changes who refers to an object. */
import t from 'tap'
import type { Avatars } from '../broker/avatars.js'
import { createLogger } from '../broker/logger.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'
import { MediaRecords } from '../plugins/media/media-records.js'
import type { MediaWorld } from '../plugins/media/media-world.js'
import { Sweep } from '../plugins/media/sweep.js'
import { unsettle } from '../plugins/media/unsettle.js'
import { eventually } from './helper/eventually.js'
import { newDir } from './helper/new-dir.js'

const hourMs = 3_600_000

t.test('what loses its last message while the sweep finds that it has one goes at a later round', async (t) => {
  const store = await createLmdbStore({ dir: await newDir(t) })
  t.teardown(() => store.close())
  const records = new MediaRecords(store.records)
  const name = { id: 'o'.repeat(22), sha256: 'f'.repeat(64) }
  const removed: string[] = []
  let nowTs = 0
  let isErased = false
  const world = {
    store,
    records,
    config: { mediaUnsentMs: hourMs },
    avatars: { of: async () => undefined } as Partial<Avatars>,
    now: () => nowTs,
    objects: { remove: async ({ id }: { id: string }) => void removed.push(id) },
    metrics: { removed: () => undefined },
    access: {
      seqOf: async () => {
        if (isErased) return undefined
        // Just now the message is erased.
        isErased = true
        await unsettle(world, [name.id])
        return 1
      },
    },
  } as unknown as MediaWorld
  const times = async (): Promise<number[]> => {
    const all: number[] = []
    for await (const { ts } of records.unsettled()) all.push(ts)
    return all
  }
  /** So many hours later, until it has done what it should. */
  const round = async (hours: number, what: string, isDone: () => Promise<boolean>): Promise<void> => {
    nowTs = hours * hourMs
    const sweep = new Sweep(world, createLogger('silent'))
    sweep.start()
    await eventually(isDone, { what })
    await sweep.close()
  }
  await records.putUnsettled({ ...name, ts: nowTs })
  await records.putObject({ ...name, user: 'ann', mime: 'image/png', size: 1, ts: nowTs })
  await records.putRef(name.id, { conv: 'u/ann/bob', from: 'ann', id: 'c1', ts: nowTs })
  await round(2, 'its upload is settled', async () => isErased && (await times()).includes(0) === false)
  t.same(await times(), [2 * hourMs], 'and its erasure is not')
  t.same(removed, [])
  await round(4, 'it is seen that nobody refers to it', async () => (await records.object(name.id))?.doomedTs !== undefined)
  await round(7, 'it goes', async () => removed.length === 1 && (await times()).length === 0)
})
