/** A server that cannot have its data directory does not start: one readable report on stderr, exit code 2, and nothing is harmed. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ServerProcess, startServer } from '../helper/server-process.js'

t.setTimeout(60_000)

async function refused(t: Test, server: ServerProcess, words: RegExp): Promise<void> {
  server.spawn()
  t.same(await server.exited, { code: 2, signal: null })
  t.match(server.stderr, words)
  t.notMatch(server.stderr, /\n\s+at /, 'no stack trace')
}

t.test('the data directory is in use', async (t) => {
  const first = await startServer(t)
  await refused(t, new ServerProcess(t, first.dir), /in use by process \d+/)
  t.equal(await first.readyStatus(), 200, 'the first one goes on')
  await first.kill()
  const second = await new ServerProcess(t, first.dir).start()
  t.equal(await second.readyStatus(), 200, 'after a crash it is free again')
})

t.test('the data directory cannot be made', async (t) => {
  const dir = t.testdir({ file: '' })
  await refused(t, new ServerProcess(t, join(dir, 'file', 'data')), /data directory .*cannot be written/)
})

t.test('the data directory cannot be written', async (t) => {
  if (process.getuid?.() === 0) return t.comment('skipped: root may write everywhere')
  const dir = t.testdir({ data: {} })
  chmodSync(join(dir, 'data'), 0o500)
  await refused(t, new ServerProcess(t, join(dir, 'data')), /data directory .*cannot be written/)
})

t.test('the store is not a store', async (t) => {
  const dir = t.testdir({ data: { store: {} } })
  writeFileSync(join(dir, 'data', 'store', 'data.mdb'), Buffer.alloc(65_536, 'x'))
  await refused(t, new ServerProcess(t, join(dir, 'data')), /data\.mdb is not a store of Parley/)
})
