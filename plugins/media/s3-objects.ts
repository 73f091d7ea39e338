/**
 * Objects in a bucket of an S3 API, by path (`{endpoint}/{bucket}/media/{id}/{hash}`), signed with SigV4. The hash of the bytes is known
 * before they are sent, so the signature covers them and the bucket refuses what was changed on the way. Equal objects are kept each for
 * itself: nodes could not agree, without a lock, whether the last of them has gone.
 */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { AwsV4Signer } from 'aws4fetch'
import { StoreUnavailable } from '../../broker/store/store.js'
import type { ByteRange, ObjectName, ObjectStore } from './object-store.js'

export interface S3Options {
  endpoint: string
  bucket: string
  region: string
  accessKeyId: string
  secretAccessKey: string
  /** Of the answer's headers; bytes may take longer. */
  timeoutMs: number
}

const emptyHash = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
/** The slowest bucket that is worth waiting for. */
const bytesPerMsMin = 50

export class S3Objects implements ObjectStore {
  readonly #options: S3Options
  /** Of signing keys, one a day. */
  #keys = new Map<string, ArrayBuffer>()

  constructor(options: S3Options) {
    this.#options = options
  }

  async put(name: ObjectName, path: string, size: number): Promise<void> {
    const headers = { 'content-length': String(size), 'content-type': 'application/octet-stream', 'x-amz-content-sha256': name.sha256 }
    const body = createReadStream(path)
    try {
      const timeoutMs = this.#options.timeoutMs + size / bytesPerMsMin
      const response = await this.#call('PUT', name, headers, timeoutMs, Readable.toWeb(body) as ReadableStream<Uint8Array>)
      await response.arrayBuffer()
    } finally {
      body.destroy()
    }
  }

  async read(name: ObjectName, { first, last }: ByteRange): Promise<Readable> {
    const headers = { range: `bytes=${first}-${last}`, 'x-amz-content-sha256': emptyHash }
    const response = await this.#call('GET', name, headers, this.#options.timeoutMs)
    if (response.status !== 206 || response.body === null) throw new StoreUnavailable(`the bucket answers a range with ${response.status}`)
    return Readable.fromWeb(response.body as ReadableStream<Uint8Array>)
  }

  async remove(name: ObjectName): Promise<void> {
    await (await this.#call('DELETE', name, { 'x-amz-content-sha256': emptyHash }, this.#options.timeoutMs)).arrayBuffer()
  }

  /** In bytes; undefined: it is not there. Rejects with StoreUnavailable when that cannot be known now. */
  async sizeOf(name: ObjectName): Promise<number | undefined> {
    const { ok, headers } = await this.#call('HEAD', name, { 'x-amz-content-sha256': emptyHash }, this.#options.timeoutMs)
    return ok ? Number(headers.get('content-length')) : undefined
  }

  async #call(
    method: 'PUT' | 'GET' | 'HEAD' | 'DELETE',
    { id, sha256 }: ObjectName,
    given: Record<string, string>,
    timeoutMs: number,
    body?: ReadableStream<Uint8Array>,
  ): Promise<Response> {
    const { endpoint, bucket, region, accessKeyId, secretAccessKey } = this.#options
    const url = `${endpoint.replace(/\/+$/, '')}/${bucket}/media/${id}/${sha256}`
    const ended = new AbortController()
    const late = setTimeout(() => ended.abort(new Error(`no answer in ${Math.round(timeoutMs)} ms`)), timeoutMs)
    try {
      if (this.#keys.size > 10) this.#keys = new Map()
      const signer = new AwsV4Signer({
        method,
        url,
        headers: given,
        service: 's3',
        region,
        accessKeyId,
        secretAccessKey,
        cache: this.#keys,
      })
      const { headers } = await signer.sign()
      const init = { method, headers, signal: ended.signal, ...(body === undefined ? {} : { body, duplex: 'half' as const }) }
      const response = await fetch(url, init as RequestInit)
      if (response.ok || (response.status === 404 && (method === 'DELETE' || method === 'HEAD'))) return response
      const said = (await response.text()).slice(0, 300)
      throw new Error(`it answers ${response.status} ${said}`)
    } catch (error) {
      const { message, cause } = error as Error
      const why = cause instanceof Error ? `${message}: ${cause.message}` : message
      throw new StoreUnavailable(`the bucket cannot be used (${method}): ${why}`, { cause: error })
    } finally {
      clearTimeout(late)
    }
  }
}
