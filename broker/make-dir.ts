/**
 * As `mkdir -p`, for directories that are their owner's alone. Node's own `recursive` never returns where the system lets nobody
 * create anything, as in /proc.
 */
import { mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** Throws what the system says when it cannot be made, or is there and no directory. */
export function makeDir(path: string): void {
  const dir = resolve(path)
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') {
      if (statSync(dir).isDirectory()) return
      throw new Error(`${dir} is not a directory`, { cause: error })
    }
    if (code !== 'ENOENT' || dirname(dir) === dir) throw error
    makeDir(dirname(dir))
    mkdirSync(dir, { mode: 0o700 })
  }
}
