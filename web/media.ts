/** Media as the page handles them: a chosen file is uploaded and becomes the body of a message; what a message names is loaded by a link. */
import { CallError } from './connection.js'
import type { VoiceRecord } from './recorder.js'

type Call = <Result extends object>(method: string, params: object) => Promise<Result>

interface MediaMessage {
  type: 'image' | 'voice' | 'file'
  body: object
}

const shownTypes = new Set(['image/jpeg', 'image/png', 'image/gif', 'image/webp', 'image/avif'])
/** A link is asked for anew some time before it expires. */
const spareMs = 60_000

/** On this server, whatever name of it a URL has. */
const pathOf = (url: string): string => {
  const { pathname, search } = new URL(url, location.href)
  return pathname + search
}

/** Resolves with the URL for the message; rejects with a CallError that says why. */
async function put(call: Call, bytes: Blob, announced: { mime: string; name: string; type: string }): Promise<string> {
  const { upload_url, url } = await call<{ upload_url: string; url: string }>('media.upload', { ...announced, size: bytes.size })
  const response = await fetch(pathOf(upload_url), { method: 'PUT', body: bytes }).catch(() => undefined)
  if (response === undefined) throw new CallError('offline', 'the upload was cut off')
  if (!response.ok) {
    const { error } = (await response.json()) as { error: { code: string; message: string } }
    throw new CallError(error.code, error.message)
  }
  return url
}

/** Rejects with a CallError that says why. */
export async function upload(call: Call, file: File): Promise<MediaMessage> {
  const measures = shownTypes.has(file.type) ? await measure(file) : undefined
  const [type, mime, size] = [measures === undefined ? 'file' : 'image', file.type || 'application/octet-stream', file.size] as const
  const name = file.name.slice(-255) || 'file'
  const url = await put(call, file, { mime, name, type })
  return { type, body: measures === undefined ? { url, mime, size, name } : { url, mime, size, ...measures } }
}

/** The same. */
export async function uploadVoice(call: Call, { bytes, mime, durationMs }: VoiceRecord): Promise<MediaMessage> {
  const url = await put(call, bytes, { mime, name: 'voice message', type: 'voice' })
  return { type: 'voice', body: { url, mime, size: bytes.size, duration_ms: durationMs } }
}

/** undefined for what this browser cannot show. */
async function measure(file: File): Promise<{ width: number; height: number } | undefined> {
  const picture = await createImageBitmap(file).catch(() => undefined)
  if (picture === undefined) return undefined
  const { width, height } = picture
  picture.close()
  return { width, height }
}

/** Links of objects, each asked for once while it is good. */
export class MediaLinks {
  readonly #links = new Map<string, Promise<{ path: string; expiresTs: number }>>()

  constructor(readonly call: Call) {}

  async of(url: string): Promise<string> {
    const known = await this.#links.get(url)
    if (known !== undefined && known.expiresTs - spareMs > Date.now()) return known.path
    const asked = this.call<{ url: string; expires_ts: number }>('media.link', { url }).then(({ url: link, expires_ts }) => ({
      path: pathOf(link),
      expiresTs: expires_ts,
    }))
    this.#links.set(url, asked)
    asked.catch(() => this.#links.delete(url))
    return (await asked).path
  }
}
