/** The paths of the files anywhere below a directory whose path has `part` in it. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

export function filesOf(dir: string, folder: string): string[] {
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map(({ path, name }) => join(path, name))
    .filter((path) => path.includes(folder))
}
