/** What users do with media by HTTP: upload, and look; and small files that begin as their types do. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { Json, Stage } from './stage.js'

const beginnings: Record<string, string> = {
  'audio/ogg': 'OggS\0',
  'image/png': '\x89PNG\r\n\x1a\n',
  'image/jpeg': '\xff\xd8\xff\xe0',
  'application/pdf': '%PDF-1.7\n',
  'text/html': '<html><script>alert(1)</script>',
  'image/svg+xml': '<svg xmlns="http://www.w3.org/2000/svg"/>',
}

export function fileOf(mime: string, size = 1000): Buffer {
  const beginning = Buffer.from(beginnings[mime] ?? '', 'latin1')
  return Buffer.concat([beginning, randomBytes(size)]).subarray(0, size)
}

export interface Upload {
  upload_url: string
  url: string
}

export interface Seen {
  status: number
  headers: Headers
  bytes: Buffer
}

export async function announces(s: Stage, user: string, params: Json): Promise<Upload> {
  const { status, body } = await s.http('POST', '/v1/rpc/media.upload', { token: await s.token(user), body: params })
  assert.equal(status, 200, JSON.stringify(body))
  return body as unknown as Upload
}

export async function puts(s: Stage, uploadUrl: string, bytes: Buffer): Promise<{ status: number; body: Json }> {
  const response = await fetch(`http://127.0.0.1:${s.httpPort}${uploadUrl}`, { method: 'PUT', body: bytes })
  return { status: response.status, body: (await response.json()) as Json }
}

/** Sends half of the bytes; what it returns sends the rest and resolves to the status. */
export function beginsPut(s: Stage, uploadUrl: string, bytes: Buffer): () => Promise<number | undefined> {
  const put = request(`http://127.0.0.1:${s.httpPort}${uploadUrl}`, { method: 'PUT', headers: { 'content-length': bytes.length } })
  const answered = once(put, 'response') as Promise<[IncomingMessage]>
  const half = bytes.length >> 1
  put.write(bytes.subarray(0, half))
  return async () => {
    put.end(bytes.subarray(half))
    const [response] = await answered
    response.resume()
    return response.statusCode
  }
}

/** The body of a message about it, without what is of one type only. */
export async function uploads(s: Stage, user: string, mime: string, bytes = fileOf(mime), more: Json = {}) {
  const { upload_url, url } = await announces(s, user, { mime, size: bytes.length, ...more })
  const { status, body } = await puts(s, upload_url, bytes)
  assert.equal(status, 201, JSON.stringify(body))
  return { url, mime, size: bytes.length }
}

/** GET, as `user` or, with a link, as nobody. */
export async function looks(
  s: Stage,
  user: string | undefined,
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<Seen> {
  const authorization = user === undefined ? {} : { authorization: `Bearer ${await s.token(user)}` }
  const response = await fetch(`http://127.0.0.1:${s.httpPort}${url}`, { method, headers: { ...authorization, ...headers } })
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) }
}
