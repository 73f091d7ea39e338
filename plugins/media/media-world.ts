/** What the parts of media share. */
import type { Avatars } from '../../broker/avatars.js'
import type { Config } from '../../broker/config.js'
import { type Refusal, refuse } from '../../broker/errors.js'
import type { Store } from '../../broker/store/store.js'
import type { Grants } from './grants.js'
import type { Incoming } from './incoming.js'
import type { MediaAccess } from './media-access.js'
import type { MediaMetrics } from './media-metrics.js'
import type { MediaRecords } from './media-records.js'
import type { MediaKind } from './media-types.js'
import type { ObjectStore } from './object-store.js'

export interface MediaWorld {
  config: Config
  store: Store
  records: MediaRecords
  avatars: Avatars
  access: MediaAccess
  grants: Grants
  incoming: Incoming
  /** undefined: nodes that share nothing would each have objects that the others lack. */
  objects: ObjectStore | undefined
  metrics: MediaMetrics
  now(): number
}

const path = '/v1/media/'

export const urlOf = ({ publicUrl = '' }: Config, id: string): string => `${publicUrl}${path}${id}`

/** The object that an own URL names, '' when it names none; undefined for a foreign one. */
export function idOfUrl({ publicUrl }: Config, url: string): string | undefined {
  for (const prefix of publicUrl === undefined ? [path] : [path, `${publicUrl}${path}`]) {
    if (url.startsWith(prefix)) return /^[\w-]{22}$/.test(url.slice(prefix.length)) ? url.slice(prefix.length) : ''
  }
  return undefined
}

/** `id` as idOfUrl gave it. */
export function notThere(id: string): Refusal {
  return refuse('not_found', id === '' ? 'the URL names no object' : `there is no object ${id}, or its upload is not done`)
}

export const bytesMaxOf = (config: Config, kind: MediaKind): number =>
  ({ image: config.mediaImageBytesMax, voice: config.mediaVoiceBytesMax, file: config.mediaFileBytesMax })[kind]
