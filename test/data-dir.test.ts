/** The lock of the data directory: one live holder, stale locks taken over, and errors that say what to do. */
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { lockDataDir } from '../broker/store/data-dir.js'
import { createLmdbStore } from '../broker/store/lmdb/lmdb-store.js'

async function newDir(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'parley-lock-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** A live process that is not this one. */
function otherProcess(t: Test): number {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => 0, 1e6)'], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  return child.pid ?? 0
}

const lockOf = (dir: string) => join(dir, 'parley.lock')
const holder = (fields: object) => JSON.stringify({ pid: process.pid, host: hostname(), started: '', token: 'other', ...fields })

t.test('creates the directory for its owner alone, and leaves nothing behind', async (t) => {
  const dir = join(await newDir(t), 'new', 'data')
  const lock = await lockDataDir(dir)
  t.equal((await stat(dir)).mode & 0o777, 0o700)
  await lock.release()
  t.same(await readdir(dir), [])
})

t.test('a second holder in the same process is refused with one line, until the first lets go', async (t) => {
  const dir = await newDir(t)
  const lock = await lockDataDir(dir)
  await t.rejects(lockDataDir(dir), {
    message: new RegExp(`^the data directory .* is in use by process ${process.pid} on .*PARLEY_DATA_DIR[^\n]*$`),
  })
  await lock.release()
  await (await lockDataDir(dir)).release()
})

t.test('two stores on one directory are refused', async (t) => {
  const dir = await newDir(t)
  const store = await createLmdbStore({ dir })
  await t.rejects(createLmdbStore({ dir }), /is in use by process/)
  await store.close()
  await (await createLmdbStore({ dir })).close()
})

t.test('a lock of another live process is respected', async (t) => {
  const dir = await newDir(t)
  const pid = otherProcess(t)
  await writeFile(lockOf(dir), holder({ pid }))
  await t.rejects(lockDataDir(dir), new RegExp(`process ${pid}`))
})

t.test(
  'a lock whose process id belongs to another process by now is taken over',
  { skip: process.platform !== 'linux' && 'needs /proc' },
  async (t) => {
    const dir = await newDir(t)
    await writeFile(lockOf(dir), holder({ pid: otherProcess(t), started: 'an earlier boot:1' }))
    const lock = await lockDataDir(dir)
    t.equal(JSON.parse(await readFile(lockOf(dir), 'utf8')).pid, process.pid)
    await lock.release()
  },
)

for (const [what, text] of Object.entries({
  'of a dead process': holder({ pid: 2 ** 22 + 1 }),
  'of an earlier process with the id of this one': holder({}),
  'cut short by a crash': '{"pid":1',
  'that is empty': '',
})) {
  t.test(`a lock ${what} is taken over`, async (t) => {
    const dir = await newDir(t)
    await writeFile(lockOf(dir), text)
    const lock = await lockDataDir(dir)
    await t.rejects(lockDataDir(dir), /is in use/)
    await lock.release()
    t.same(await readdir(dir), [])
  })
}

t.test('of several that find a stale lock at once exactly one gets it', async (t) => {
  const dir = await newDir(t)
  await writeFile(lockOf(dir), holder({ pid: 2 ** 22 + 1 }))
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => lockDataDir(dir)))
  const locks = results.filter((result) => result.status === 'fulfilled').map(({ value }) => value)
  t.equal(locks.length, 1)
  for (const lock of locks) await lock.release()
  t.same(await readdir(dir), [])
})

t.test('a lock from another host counts while it is touched', async (t) => {
  const dir = await newDir(t)
  await writeFile(lockOf(dir), holder({ host: 'elsewhere', pid: 1 }))
  await t.rejects(lockDataDir(dir), /process 1 on elsewhere/)
  const old = new Date(Date.now() - 60_000)
  await utimes(lockOf(dir), old, old)
  await (await lockDataDir(dir)).release()
})

t.test('a directory that cannot be written is refused with the reason', async (t) => {
  const dir = await newDir(t)
  await writeFile(join(dir, 'file'), '')
  await t.rejects(lockDataDir(join(dir, 'file')), /^the data directory .*file cannot be written: /)
  await t.rejects(lockDataDir(join(dir, 'file', 'below')), /cannot be written: ENOTDIR/)
  await t.rejects(createLmdbStore({ dir: join(dir, 'file') }), /the data directory .* cannot be written/)
})
