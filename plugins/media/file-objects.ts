/**
 * Objects as files: `{dir}/{first two digits of the hash}/{hash}/{id}`. Objects with the same bytes are hard links to one file, so the file
 * system keeps the count, and the bytes go with the last of them.
 */
import { link, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { InTurn } from '../../broker/in-turn.js'
import { StoreUnavailable } from '../../broker/store/store.js'
import type { ByteRange, ObjectName, ObjectStore } from './object-store.js'

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? ''

const folderOf = (dir: string, { sha256 }: ObjectName): string => join(dir, sha256.slice(0, 2), sha256)

/** Where the bytes of an object are. */
export const pathOf = (dir: string, name: ObjectName): string => join(folderOf(dir, name), name.id)

async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir)
  await handle.sync().finally(() => handle.close())
}

export class FileObjects implements ObjectStore {
  readonly #dir: string
  readonly #turns = new InTurn()

  constructor(dir: string) {
    this.#dir = dir
  }

  put(name: ObjectName, path: string): Promise<void> {
    return this.#turns.run([name.sha256], async () => {
      const folder = folderOf(this.#dir, name)
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 })
        await this.#place(folder, name.id, path)
        for (const dir of [folder, dirname(folder), this.#dir]) await syncDir(dir)
      } catch (error) {
        throw new StoreUnavailable(`an object cannot be kept: ${(error as Error).message}`, { cause: error })
      }
    })
  }

  async #place(folder: string, id: string, path: string): Promise<void> {
    const others = await readdir(folder)
    if (others.includes(id)) return
    const [twin] = others
    try {
      if (twin !== undefined) return await link(join(folder, twin), join(folder, id))
    } catch (error) {
      // A file system without links, or with too many of them: it is kept once more.
      if (!['EPERM', 'ENOTSUP', 'EMLINK'].includes(codeOf(error))) throw error
    }
    await rename(path, join(folder, id))
  }

  async read(name: ObjectName, { first, last }: ByteRange): Promise<Readable> {
    try {
      const handle = await open(pathOf(this.#dir, name))
      return handle.createReadStream({ start: first, end: last })
    } catch (error) {
      throw new StoreUnavailable(`the object ${name.id} cannot be read: ${(error as Error).message}`, { cause: error })
    }
  }

  remove(name: ObjectName): Promise<void> {
    return this.#turns.run([name.sha256], async () => {
      const folder = folderOf(this.#dir, name)
      await rm(join(folder, name.id), { force: true })
      try {
        await rmdir(folder)
      } catch (error) {
        if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(codeOf(error))) throw error
      }
    })
  }
}
