/** From one store to another between two connects: a stock client goes on as if nothing had happened. */
import { appendFile, mkdtemp, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readConfig } from '../../broker/config.js'
import type { ServerOptions } from '../../broker/index.js'
import { copyStore } from '../../broker/migrate/copy-store.js'
import { migrate } from '../../broker/migrate/migrate.js'
import { createLmdbStore } from '../../broker/store/lmdb/lmdb-store.js'
import { createMongodbStore } from '../../broker/store/mongodb/mongodb-store.js'
import type { Store } from '../../broker/store/store.js'
import { moves } from '../../plugins/index.js'
import { filesOf } from '../helper/files-of.js'
import { looks, uploads } from '../helper/media.js'
import { mediaDirOf } from '../helper/media-places.js'
import { newDatabase, startMongodb } from '../helper/mongodb.js'
import { redisUrl as redisUrlOf } from '../helper/redis.js'
import { openGateway } from '../helper/s3-gateway.js'
import { openBucket } from '../helper/s3-server.js'
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

t.test('media move into the bucket of the cluster: what was seen is seen, and nobody sees more', { timeout: 180_000 }, async (t) => {
  const [url, redisUrl] = [await startMongodb(t), await redisUrlOf(t)]
  if (url === undefined || redisUrl === undefined) return
  const s = await stage(t)
  const [alice] = await s.cast(['alice', 'bob', 'carol'])
  await alice.calls('group.create', { group: 'team', members: ['bob'] })
  const [image, face, badge] = [
    await uploads(s, 'alice', 'image/png'),
    await uploads(s, 'alice', 'image/jpeg'),
    await uploads(s, 'alice', 'image/png'),
  ]
  await alice.sends('u/bob', { type: 'image', body: { ...image, width: 1, height: 1 } })
  await alice.calls('profile.update', { avatar_url: face.url })
  await alice.calls('group.update', { group: 'team', avatar_url: badge.url })
  const all = [image, face, badge]
  const before = await Promise.all(all.map((object) => looks(s, 'bob', object.url)))
  t.strictSame(
    before.map(({ status }) => status),
    [200, 200, 200],
  )
  await s.server.close()

  const bucket = (await openGateway(t)) ?? (await openBucket(t))
  const mongodbUrl = newDatabase(url)
  const dataDir = s.options.dataDir as string
  const move = (settings: ServerOptions, by = moves) =>
    migrate({ config: readConfig({}, { dataDir, ...settings }), mongodbUrl, moves: by, print: () => undefined })
  await t.rejects(move({}), { name: 'OperatorError', message: /set PARLEY_MEDIA_S3_ENDPOINT.*--no-media/ })
  const away = { ...bucket.settings, mediaS3Endpoint: 'http://127.0.0.1:9' }
  await t.rejects(move(away), { name: 'OperatorError', message: /Run the same command again/ })
  const [spoilt = ''] = filesOf(mediaDirOf(s), '/objects/')
  await appendFile(spoilt, 'more')
  await t.rejects(move(bucket.settings), { name: 'OperatorError', message: /1 of 3 objects cannot be moved.*\n.*is not what was uploaded/ })
  await truncate(spoilt, 1_000)
  await move(bucket.settings)
  t.equal(bucket.objects.size, 3)
  t.equal(filesOf(mediaDirOf(s), '/objects/').length, 3, 'the way back')
  await t.rejects(move(bucket.settings), { name: 'OperatorError', message: /nothing is left to do/ })

  const newDir = await mkdtemp(join(tmpdir(), 'parley-moved-'))
  t.teardown(() => rm(newDir, { recursive: true, force: true }))
  await s.moves({ dataDir: newDir, mongodbUrl, redisUrl, ...bucket.settings })
  for (const [at, object] of all.entries()) {
    const { status, bytes } = await looks(s, 'bob', object.url)
    t.equal(status, 200, object.url)
    t.ok(bytes.equals(before[at]?.bytes as Buffer), 'the same bytes')
  }
  t.strictSame(
    await Promise.all(all.map(async (object) => (await looks(s, 'carol', object.url)).status)),
    [403, 200, 403],
    "a stranger sees alice's face, as before, and no more",
  )
  const part = await looks(s, 'bob', image.url, { range: 'bytes=10-19' })
  t.equal(part.status, 206)
  t.ok(part.bytes.equals(before[0]?.bytes.subarray(10, 20) ?? Buffer.alloc(0)))
})

t.test('who leaves media behind gets all the rest', { timeout: 180_000 }, async (t) => {
  const [url, redisUrl] = [await startMongodb(t), await redisUrlOf(t)]
  if (url === undefined || redisUrl === undefined) return
  const s = await stage(t)
  const [alice] = await s.cast(['alice', 'bob'])
  const image = await uploads(s, 'alice', 'image/png')
  await alice.sends('u/bob', { type: 'image', body: { ...image, width: 1, height: 1 } })
  await s.server.close()
  const mongodbUrl = newDatabase(url)
  await migrate({ config: readConfig({}, { dataDir: s.options.dataDir as string }), mongodbUrl, moves: [], print: () => undefined })
  const newDir = await mkdtemp(join(tmpdir(), 'parley-moved-'))
  t.teardown(() => rm(newDir, { recursive: true, force: true }))
  await s.moves({ dataDir: newDir, mongodbUrl, redisUrl })
  const bob = await s.actor('bob', { device: 'web' })
  t.match(await bob.calls('history', { conv: 'u/alice' }), { messages: [{ seq: 1, type: 'image', body: { url: image.url } }] })
  t.not((await looks(s, 'bob', image.url)).status, 200)
})
