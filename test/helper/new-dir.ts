/** A directory that goes with the test. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export async function newDir(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'parley-test-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}
