/** Looks for a text in every file under a folder, as whoever gets hold of the disk would. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The files that hold it, in whatever encoding a store keeps texts in. */
export function filesWith(dir: string, text: string): string[] {
  const forms = [Buffer.from(text), Buffer.from(text, 'utf16le')]
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((path) => forms.some((form) => readFileSync(path).includes(form)))
}
