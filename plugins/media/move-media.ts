/**
 * The media part of `parley migrate`: every object that the store knows is put into the bucket, from the files of the data directory, and
 * looked for there; what is there already is left. The bucket refuses bytes that are not those of the hash in their name. The files
 * stay what they were.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Move } from '../../broker/migrate/migrate.js'
import { OperatorError } from '../../broker/operator-error.js'
import { StoreUnavailable } from '../../broker/store/store.js'
import { bucketOf } from './bucket.js'
import { pathOf } from './file-objects.js'
import { type MediaObject, MediaRecords } from './media-records.js'
import type { S3Objects } from './s3-objects.js'

const atOnce = 4
const namedMax = 20

/** Throws an OperatorError unless all are there in the end. */
export const moveMedia: Move = async ({ config, source, progress, print }) => {
  const objects = new MediaRecords(source.records).objects()
  const first = await objects.next()
  if (first.done === true) return
  const bucket = bucketOf(config)
  if (bucket === undefined) {
    throw new OperatorError(
      'there are media in the data directory, and the nodes of a cluster keep them in a bucket: set PARLEY_MEDIA_S3_ENDPOINT, _BUCKET, _KEY_ID and _SECRET. With --no-media they are left behind, and messages that name them show nothing',
    )
  }
  const dir = join(config.dataDir, 'media', 'objects')
  const missing: string[] = []
  let count = 0
  const move = async (object: MediaObject): Promise<void> => {
    const fault = await moved(object, dir, bucket)
    if (fault !== undefined) missing.push(`${object.id} of ${object.user}: ${fault}`)
    progress(`${++count} objects were looked at`)
  }
  // Each takes the next one from the same generator.
  const worker = async (): Promise<void> => {
    for (let next = await objects.next(); !next.done; next = await objects.next()) await move(next.value)
  }
  try {
    await move(first.value)
    await Promise.all(Array.from({ length: atOnce }, worker))
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error
    throw new OperatorError(`${error.message}. Run the same command again: it goes on where it was`, { cause: error })
  }
  if (missing.length === 0) return print(`All media are in the bucket: ${count} objects.`)
  const more = missing.length > namedMax ? [`and ${missing.length - namedMax} more`] : []
  throw new OperatorError(
    [`${missing.length} of ${count} objects cannot be moved (--no-media leaves all behind):`, ...missing.slice(0, namedMax), ...more].join(
      '\n  - ',
    ),
  )
}

/** Why the object is not in the bucket; undefined: it is. Rejects with StoreUnavailable when the bucket cannot be asked. */
async function moved(object: MediaObject, dir: string, bucket: S3Objects): Promise<string | undefined> {
  if ((await bucket.sizeOf(object)) === object.size) return undefined
  const path = pathOf(dir, object)
  try {
    const hash = createHash('sha256')
    await pipeline(createReadStream(path), hash)
    if (hash.digest('hex') !== object.sha256) return `${path} is not what was uploaded`
  } catch (error) {
    return `its bytes are neither in the bucket nor in ${path}: ${(error as Error).message}`
  }
  await bucket.put(object, path, object.size)
  const size = await bucket.sizeOf(object)
  return size === object.size ? undefined : `the bucket took it and has ${size ?? 'nothing'} of ${object.size} bytes`
}
