/** From one store to another between two connects: a stock client goes on as if nothing had happened. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ServerOptions } from '../../broker/index.js'
import { copyStore } from '../../broker/migrate/copy-store.js'
import { createLmdbStore } from '../../broker/store/lmdb/lmdb-store.js'
import { createMongodbStore } from '../../broker/store/mongodb/mongodb-store.js'
import type { Store } from '../../broker/store/store.js'
import { newDatabase, startMongodb } from '../helper/mongodb.js'
import { redisUrl as redisUrlOf } from '../helper/redis.js'
import { stage } from '../helper/stage.js'

async function goesOn(t: Test, open: (dir: string) => Promise<Store>, where: (dir: string) => ServerOptions): Promise<void> {
  const s = await stage(t)
  const alice = await s.actor('alice', { clean: false })
  const bob = await s.actor('bob', { clean: false })
  const carol = await s.actor('carol')
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  await alice.sends('u/bob', 'before')
  for (const actor of [alice, bob]) await actor.receives({ conv: 'g/team', seq: 1 })
  await bob.receives({ conv: 'u/alice', seq: 1 })
  await bob.reads('u/alice', 1)
  await s.caughtUp()
  await bob.leaves()
  const first = await alice.sends('u/bob', { id: 'keep', body: 'missed 2' })
  for (let at = 3; at <= 300; at++) await alice.sends('u/bob', `missed ${at}`)
  await alice.sends('g/team', 'missed by the team')
  await carol.sends('u/bob', { id: 'c1', body: 'hello' })
  await alice.calls('profile.update', { name: 'Alice' })
  await alice.hears({ type: 'profile', user: 'alice', name: 'Alice', status: 'available' })

  await s.server.close()
  const dataDir = await mkdtemp(join(tmpdir(), 'parley-moved-'))
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const source = await createLmdbStore({ dir: (s.options as { dataDir: string }).dataDir })
  const target = await open(dataDir)
  t.equal((await copyStore({ source, target, progress: () => undefined })).differing, 0)
  await source.close()
  await target.close()
  await s.moves(where(dataDir))

  await bob.returns()
  t.equal(bob.sessionPresent, true)
  t.strictSame(bob.ready, { type: 'ready', replayed: 301, heads: { 'u/alice': 300, 'g/team': 2, 'u/carol': 1 } })
  await bob.receivesRun('u/alice', 2, 299)
  await bob.receives({ conv: 'g/team', seq: 2, body: 'missed by the team' })
  await bob.receives({ conv: 'u/carol', seq: 1, body: 'hello' })
  await bob.receivesNothing()

  await alice.returns()
  const again = await alice.sends('u/bob', { id: 'keep', body: 'missed 2' })
  t.match(again, { seq: first.seq, ts: first.ts, dup: true })
  await alice.isRefused('u/bob', { id: 'keep', body: 'another text' }, 'conflict')
  t.match(await alice.sends('u/bob', 'after'), { seq: 301 })
  await bob.receives({ conv: 'u/alice', seq: 301, body: 'after' })
  t.match(await bob.sends('g/team', 'still a member'), { seq: 3 })
  await alice.receives({ conv: 'g/team', seq: 3 })
  const { conversations } = await bob.calls<{ conversations: { conv: string; unread: number }[] }>('conversations')
  t.equal(conversations.find(({ conv }) => conv === 'u/alice')?.unread, 300)
  t.match(await bob.calls('profile.get', { user: 'alice' }), { name: 'Alice' })
  for (const actor of [alice, bob]) await actor.receivesNothing()
}

const title = 'a device finds what it missed, the next seq follows, and an old id is a duplicate'

t.test(`${title}: in another data directory`, (t) =>
  goesOn(
    t,
    (dir) => createLmdbStore({ dir }),
    (dataDir) => ({ dataDir }),
  ),
)

t.test(`${title}: on MongoDB and Redis`, { timeout: 180_000 }, async (t) => {
  const [url, redisUrl] = [await startMongodb(t), await redisUrlOf(t)]
  if (url === undefined || redisUrl === undefined) return
  const mongodbUrl = newDatabase(url)
  await goesOn(
    t,
    () => createMongodbStore(mongodbUrl),
    (dataDir) => ({ dataDir, mongodbUrl, redisUrl }),
  )
})
