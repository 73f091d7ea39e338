/** The bucket that the configuration names. */
import type { Config } from '../../broker/config.js'
import { S3Objects } from './s3-objects.js'

const timeoutMs = 30_000

export function bucketOf(config: Config): S3Objects | undefined {
  const { mediaS3Endpoint: endpoint, mediaS3Bucket: bucket, mediaS3Region: region, mediaS3KeyId, mediaS3Secret } = config
  if (endpoint === undefined || bucket === undefined || mediaS3KeyId === undefined || mediaS3Secret === undefined) return undefined
  return new S3Objects({ endpoint, bucket, region, accessKeyId: mediaS3KeyId, secretAccessKey: mediaS3Secret, timeoutMs })
}
