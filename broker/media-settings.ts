/** The settings of media, a part of the table in config-settings.ts; and what they must be together. */
import { choice, integer, mediaTypes, optionalText, secretText, text } from './setting-kinds.js'

const megabyte = 1024 * 1024
const gigabyte = 1024 * megabyte
const hour = 3_600_000
const bytes = 'bytes'

const faultsOfOrigin = (url: string): string[] =>
  URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && new URL(url).origin === url
    ? []
    : ['it is not an origin: http or https, host and port, nothing after']

const s3 = 'together with the other PARLEY_MEDIA_S3_…'

export const mediaSettings = {
  publicUrl: optionalText(
    {
      env: 'PARLEY_PUBLIC_URL',
      description: 'where clients reach the HTTP port: what the URLs of media begin with; not set: they begin with /v1/media/',
    },
    'an origin such as https://chat.example.org',
    faultsOfOrigin,
  ),
  mediaImageBytesMax: integer(
    { env: 'PARLEY_MEDIA_IMAGE_BYTES_MAX', unit: bytes, description: 'an image' },
    10 * megabyte,
    1,
    1024 * gigabyte,
  ),
  mediaVoiceBytesMax: integer(
    { env: 'PARLEY_MEDIA_VOICE_BYTES_MAX', unit: bytes, description: 'a voice message' },
    10 * megabyte,
    1,
    1024 * gigabyte,
  ),
  mediaFileBytesMax: integer(
    { env: 'PARLEY_MEDIA_FILE_BYTES_MAX', unit: bytes, description: 'any other file' },
    100 * megabyte,
    1,
    1024 * gigabyte,
  ),
  mediaDayBytesMax: integer(
    { env: 'PARLEY_MEDIA_DAY_BYTES_MAX', unit: bytes, description: 'what a user may upload in a day (UTC), as announced by media.upload' },
    gigabyte,
    1,
    1024 * gigabyte,
  ),
  mediaTypes: mediaTypes({ env: 'PARLEY_MEDIA_TYPES', description: 'types that may be uploaded' }),
  mediaForeignUrls: choice(
    {
      env: 'PARLEY_MEDIA_FOREIGN_URLS',
      description: 'whether image, voice and file messages may name what was not uploaded here; nothing of that is checked',
    },
    'allow',
    ['allow', 'refuse'] as const,
  ),
  mediaUnsentMs: integer(
    { env: 'PARLEY_MEDIA_UNSENT_MS', unit: 'ms', description: 'how long an upload that no message refers to is kept' },
    24 * hour,
    1,
    365 * 24 * hour,
  ),
  mediaS3Endpoint: optionalText(
    { env: 'PARLEY_MEDIA_S3_ENDPOINT', description: 'keeps media in a bucket of this S3 API in place of the data folder' },
    `an http or https URL, ${s3}`,
    faultsOfOrigin,
  ),
  mediaS3Bucket: optionalText(
    { env: 'PARLEY_MEDIA_S3_BUCKET', description: 'its bucket, which is there already' },
    `a name, ${s3}`,
    (name) => (/^[a-z0-9][a-z0-9.-]{2,62}$/.test(name) ? [] : ['a name of a bucket has 3 to 63 characters of a-z 0-9 . -']),
  ),
  mediaS3Region: text({ env: 'PARLEY_MEDIA_S3_REGION', description: 'its region' }, 'us-east-1', /^[a-z0-9-]{1,64}$/, 'a name'),
  mediaS3KeyId: optionalText(
    { env: 'PARLEY_MEDIA_S3_KEY_ID', description: 'access key id, for PutObject, GetObject and DeleteObject' },
    `text, ${s3}`,
  ),
  mediaS3Secret: secretText({ env: 'PARLEY_MEDIA_S3_SECRET', description: 'its secret access key' }, `text, ${s3}`, () => []),
}

/** Faults that only several settings together have. */
export function faultsOfMedia(settings: {
  mediaS3Endpoint: string | undefined
  mediaS3Bucket: string | undefined
  mediaS3KeyId: string | undefined
  mediaS3Secret: string | undefined
}): string[] {
  const { mediaS3Endpoint, mediaS3Bucket, mediaS3KeyId, mediaS3Secret } = settings
  const missing = Object.entries({ ENDPOINT: mediaS3Endpoint, BUCKET: mediaS3Bucket, KEY_ID: mediaS3KeyId, SECRET: mediaS3Secret })
    .filter(([, value]) => value === undefined)
    .map(([name]) => `PARLEY_MEDIA_S3_${name}`)
  return missing.length === 0 || missing.length === 4 ? [] : [`for media in a bucket also set ${missing.join(' and ')}`]
}
