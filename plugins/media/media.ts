/**
 * Media: owns the methods media.upload and media.link, and /v1/media/{id}: PUT takes what was announced, GET gives it to who may read a
 * message that refers to it. Image, voice and file messages that name an object are checked against it before they are stored.
 */
import { join } from 'node:path'
import type { Static } from 'typebox'
import type { Config } from '../../broker/config.js'
import { type Caller, method, type PluginFactory } from '../../broker/plugin.js'
import { Attachments } from './attachments.js'
import { maySeeAsAvatar, prepareAvatar } from './avatar-objects.js'
import { bucketOf } from './bucket.js'
import { Downloads } from './downloads.js'
import { FileObjects } from './file-objects.js'
import { putFilesIntoBucket } from './files-into-bucket.js'
import { Grants } from './grants.js'
import { Incoming } from './incoming.js'
import { MediaAccess } from './media-access.js'
import { getOperation, linkParams, linkResult, putOperation, uploadParams, uploadResult } from './media-api.js'
import { createMediaMetrics } from './media-metrics.js'
import { eraseUploads, uploadsOf } from './media-of-user.js'
import { MediaRecords } from './media-records.js'
import type { MediaWorld } from './media-world.js'
import { objectsNamedIn } from './named-objects.js'
import type { ObjectStore } from './object-store.js'
import { S3Objects } from './s3-objects.js'
import { Sweep } from './sweep.js'
import { unsettle } from './unsettle.js'
import { type UploadParams, Uploads } from './uploads.js'

const path = '/v1/media/:id'

const objectStoreOf = (config: Config, dir: string): ObjectStore | undefined =>
  bucketOf(config) ?? (config.mongodbUrl === undefined ? new FileObjects(join(dir, 'objects')) : undefined)

export const createMedia: PluginFactory = ({ config, logger, store, registry, avatars }) => {
  const dir = join(config.dataDir, 'media')
  const records = new MediaRecords(store.records)
  const world: MediaWorld = {
    config,
    store,
    records,
    avatars,
    access: new MediaAccess(store, records, (user, object) => maySeeAsAvatar(world, user, object)),
    grants: new Grants(config.nodeId, records),
    incoming: new Incoming(join(dir, `incoming-${config.nodeId}`)),
    objects: objectStoreOf(config, dir),
    metrics: createMediaMetrics(registry, () => uploads.underWay),
    now: () => Date.now(),
  }
  const uploads = new Uploads(world)
  const downloads = new Downloads(world)
  const sweep = new Sweep(world, logger)
  return {
    name: 'media',
    eraseUser: (user) => eraseUploads(world, user),
    beforeErase: (_conv, entries) =>
      unsettle(
        world,
        entries.flatMap(({ payload }) => objectsNamedIn(config, payload)),
      ),
    exportUser: (user) => uploadsOf(world, user),
    start: async () => {
      await world.incoming.start()
      if (world.objects instanceof S3Objects) await putFilesIntoBucket(join(dir, 'objects'), world.objects, records, logger)
      sweep.start()
    },
    close: () => sweep.close(),
    prepareAvatar: (by, of, url) => prepareAvatar(world, by, of, url),
    prepareMessage: new Attachments(world).prepare,
    methods: {
      'media.upload': method(uploadParams, ({ user }: Caller, params) => uploads.announce(user, params as UploadParams), uploadResult),
      'media.link': method(
        linkParams,
        ({ user }: Caller, params: Static<typeof linkParams>) => downloads.link(user, params.url),
        linkResult,
      ),
    },
    http: [
      { method: 'PUT', path, operation: putOperation, handle: (exchange) => world.metrics.uploading(() => uploads.put(exchange)) },
      { method: 'GET', path, operation: getOperation, handle: (exchange) => world.metrics.downloading(() => downloads.get(exchange)) },
      { method: 'HEAD', path, handle: (exchange) => downloads.head(exchange) },
    ],
  }
}
