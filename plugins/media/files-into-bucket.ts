/**
 * A server that kept objects as files and is given a bucket puts them into it, before anybody is let in: what messages name stays to be had. The
 * files stay, under another name, as a way back. Cut off at any point it is done again from the start, which changes nothing that is done.
 */
import { readdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../broker/logger.js'
import { OperatorError } from '../../broker/operator-error.js'
import type { MediaRecords } from './media-records.js'
import type { ObjectName, ObjectStore } from './object-store.js'

interface Found extends ObjectName {
  path: string
}

const atOnce = 4
const toldEvery = 1_000

/** `dir` is that of FileObjects. Throws an OperatorError when the bucket does not take them. */
export async function putFilesIntoBucket(dir: string, bucket: ObjectStore, records: MediaRecords, logger: Logger): Promise<void> {
  const folders = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (folders === undefined) return
  logger.info({ dir }, 'objects that were kept as files are put into the bucket')
  let count = 0
  const put = async (found: Found): Promise<void> => {
    // Bytes without a record are of an upload that was cut off.
    if ((await records.object(found.id))?.sha256 !== found.sha256) return
    await bucket.put(found, found.path, (await stat(found.path)).size)
    if (++count % toldEvery === 0) logger.info({ count }, 'objects are in the bucket')
  }
  const files = filesOf(dir, folders)
  // Each takes the next one from the same generator.
  const worker = async (): Promise<void> => {
    for (let next = await files.next(); !next.done; next = await files.next()) await put(next.value)
  }
  try {
    await Promise.all(Array.from({ length: atOnce }, worker))
  } catch (error) {
    throw new OperatorError(`the media that were kept in ${dir} cannot be put into the bucket: ${(error as Error).message}`, {
      cause: error,
    })
  }
  const kept = `${dir}-in-bucket-${Date.now()}`
  await rename(dir, kept)
  logger.info({ count, kept }, 'all objects are in the bucket; what they were in can be removed')
}

async function* filesOf(dir: string, folders: readonly string[]): AsyncGenerator<Found, void> {
  for (const folder of folders) {
    for (const sha256 of await readdir(join(dir, folder))) {
      for (const id of await readdir(join(dir, folder, sha256))) yield { id, sha256, path: join(dir, folder, sha256, id) }
    }
  }
}
