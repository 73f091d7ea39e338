/** A disk that is soon full. */
import { execFileSync } from 'node:child_process'
import type { Test } from 'tap'
import { newDir } from './new-dir.js'

/** A mount of 8 MB; undefined after saying why there is none. */
export async function smallDisk(t: Test): Promise<string | undefined> {
  const dir = await newDir(t)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dir], { stdio: 'pipe' })
  } catch (error) {
    const why = `needs a small tmpfs, which only root on Linux can mount: ${String(error).split('\n')[0]}`
    if (process.env.PARLEY_TEST_REQUIRE?.includes('tmpfs')) t.fail(why)
    else t.comment(`SKIPPED: ${why}`)
    return undefined
  }
  t.teardown(() => execFileSync('umount', ['-l', dir]))
  return dir
}
