/**
 * A bucket of an S3 API in this process. It checks the SigV4 signature of each request by its own reckoning, and what S3 demands of a PUT: a
 * Content-Length, and bytes whose hash is the signed one.
 */
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Test } from 'tap'
import type { ServerOptions } from '../../broker/index.js'

const region = 'eu-test-1'
const keyId = 'AKIATEST'
const secret = 'secret/of+the bucket'

const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex')
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** What the signature must be, by the headers that it says are signed. */
function signatureOf({ method, url = '', headers }: IncomingMessage, signed: string[], scope: string): string {
  const [path = '', query = ''] = url.split('?')
  const lines = signed.map((name) => `${name}:${String(headers[name]).trim()}\n`).join('')
  const canonical = [method, path, query, lines, signed.join(';'), headers['x-amz-content-sha256']].join('\n')
  const key = scope.split('/').reduce<string | Buffer>((before, part) => hmac(before, part), `AWS4${secret}`)
  return hmac(key, ['AWS4-HMAC-SHA256', headers['x-amz-date'], `${scope}`, sha256(canonical)].join('\n')).toString('hex')
}

export class Bucket {
  readonly objects = new Map<string, Buffer>()
  readonly refused: string[] = []
  /** Answers 503 to everything. */
  isDown = false
  /** Does what it is asked and answers nothing. */
  isMute = false
  port = 0

  get settings(): ServerOptions {
    return {
      mediaS3Endpoint: `http://127.0.0.1:${this.port}`,
      mediaS3Bucket: 'pictures',
      mediaS3Region: region,
      mediaS3KeyId: keyId,
      mediaS3Secret: secret,
    }
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const fault = this.#faultOf(request, body)
    if (fault !== undefined) this.refused.push(fault)
    if (fault !== undefined || this.isDown) return void response.writeHead(fault === undefined ? 503 : 403).end(fault)
    const key = request.url ?? ''
    const found = this.objects.get(key)
    if (request.method === 'PUT') this.objects.set(key, body)
    if (request.method === 'DELETE') this.objects.delete(key)
    if (this.isMute) return
    if (request.method === 'HEAD')
      return void response.writeHead(found === undefined ? 404 : 200, { 'content-length': found?.length ?? 0 }).end()
    if (request.method !== 'GET') return void response.writeHead(request.method === 'PUT' ? 200 : 204).end()
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    if (found === undefined) response.writeHead(404).end('NoSuchKey')
    else response.writeHead(206).end(found.subarray(Number(first), Number(last) + 1))
  }

  #faultOf(request: IncomingMessage, body: Buffer): string | undefined {
    const { headers, method, url } = request
    const [, id, scope = '', signed = '', signature] =
      /^AWS4-HMAC-SHA256 Credential=(\w+)\/([\w/-]+), SignedHeaders=([\w;-]+), Signature=(\w+)$/.exec(headers.authorization ?? '') ?? []
    if (id !== keyId || !scope.endsWith(`/${region}/s3/aws4_request`)) return `${method} ${url}: credential ${id} ${scope}`
    if (!/(^|;)host(;|$)/.test(signed) || !signed.includes('x-amz-content-sha256')) return `not signed enough: ${signed}`
    if (signatureOf(request, signed.split(';'), scope) !== signature) return `${method} ${url}: the signature is not right`
    if (method === 'PUT' && headers['content-length'] === undefined) return 'MissingContentLength'
    if (sha256(body) !== headers['x-amz-content-sha256']) return 'XAmzContentSHA256Mismatch'
    return undefined
  }
}

export async function openBucket(t: Test): Promise<Bucket> {
  const bucket = new Bucket()
  const server = createServer((request, response) => void bucket.answer(request, response).catch(() => response.destroy()))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  bucket.port = (server.address() as { port: number }).port
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return bucket
}
