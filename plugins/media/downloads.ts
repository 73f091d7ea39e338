/**
 * Downloads: GET and HEAD, whole or a range, for who may see the object, with a token or with a link that `media.link` gave for `<img>`,
 * `<audio>` and the like. Rights are asked for each time. Bytes of a bucket pass through this server: so its clients need not reach the
 * bucket, the headers are ours, and a right that ends ends at once.
 */
import { refuse } from '../../broker/errors.js'
import type { HttpAnswer, HttpExchange } from '../../broker/http-route.js'
import { isErased } from '../../broker/known-user.js'
import { parseRange } from './byte-range.js'
import type { MediaObject } from './media-records.js'
import { isShown } from './media-types.js'
import { idOfUrl, type MediaWorld, urlOf } from './media-world.js'

const linkMs = 3_600_000
/** Links of the same ten minutes are the same, so that browsers can keep what they loaded. */
const linkStepMs = 600_000

export class Downloads {
  readonly #world: MediaWorld

  constructor(world: MediaWorld) {
    this.#world = world
  }

  /** A URL that needs no token, for a while. */
  async link(user: string, url: string): Promise<object> {
    const { config, grants, now } = this.#world
    const id = idOfUrl(config, url)
    if (id === undefined) throw refuse('invalid', 'url: not one that media.upload gave')
    await this.#readable(user, id)
    const expires_ts = Math.ceil((now() + linkMs) / linkStepMs) * linkStepMs
    return { url: `${urlOf(config, id)}?view=${await grants.sign({ for: 'view', id, user, expires_ts })}`, expires_ts }
  }

  async #readable(user: string, id: string): Promise<MediaObject> {
    const object = await this.#world.records.object(id)
    if (object === undefined) throw refuse('not_found', 'there is no such object, or it was not uploaded')
    if (!(await this.#world.access.mayRead(user, object))) throw refuse('forbidden', 'no message that you may read refers to it')
    return object
  }

  async get(exchange: HttpExchange): Promise<HttpAnswer> {
    const { object, answer, range } = await this.#judge(exchange)
    if (range === undefined) return answer
    const { objects } = this.#world
    if (objects === undefined) throw refuse('not_found', 'there is no place for media')
    return { ...answer, body: await objects.read(object, range) }
  }

  async head(exchange: HttpExchange): Promise<HttpAnswer> {
    return (await this.#judge(exchange)).answer
  }

  /** Status and headers; no range: there is no body. */
  async #judge(exchange: HttpExchange): Promise<{ object: MediaObject; answer: HttpAnswer; range?: { first: number; last: number } }> {
    const { headers, params } = exchange
    const object = await this.#readable(await this.#viewer(exchange), params.id as string)
    const etag = `"${object.sha256}"`
    const common = headersOf(object, etag)
    const known = (headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''))
    if (known.includes(etag) || known.includes('*')) return { object, answer: { status: 304, headers: common } }
    const isSame = headers['if-range'] === undefined || headers['if-range'] === etag
    const range = parseRange(isSame ? headers.range : undefined, object.size)
    if (range === 'outside') return { object, answer: { status: 416, headers: { ...common, 'content-range': `bytes */${object.size}` } } }
    if (range === 'whole') {
      return {
        object,
        answer: { status: 200, headers: { ...common, 'content-length': object.size } },
        range: { first: 0, last: object.size - 1 },
      }
    }
    const content = { 'content-length': range.last - range.first + 1, 'content-range': `bytes ${range.first}-${range.last}/${object.size}` }
    return { object, answer: { status: 206, headers: { ...common, ...content } }, range }
  }

  async #viewer({ params, query, identify }: HttpExchange): Promise<string> {
    if (query.view === undefined) {
      const { user } = await identify()
      if (user === '') throw refuse('forbidden', 'the token names no user')
      return user
    }
    const grant = await this.#world.grants.verify(query.view)
    if (grant?.for !== 'view' || grant.id !== params.id) throw refuse('forbidden', 'this link was not given by media.link')
    if (this.#world.now() > grant.expires_ts) throw refuse('forbidden', 'the link has expired: call media.link again')
    if (await isErased(this.#world.store.directory, grant.user)) throw refuse('forbidden', `there is no user ${grant.user} any more`)
    return grant.user
  }
}

/** Half of a surrogate pair has no UTF-8. */
const wellFormed = (text: string): string => Buffer.from(text).toString()

/** Whatever a file is, it cannot act in the name of this origin. */
function headersOf({ mime, name }: MediaObject, etag: string): Record<string, string> {
  const isInline = isShown(mime)
  const named =
    name === undefined
      ? ''
      : `; filename*=UTF-8''${encodeURIComponent(wellFormed(name)).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`
  return {
    'content-type': isInline ? mime : 'application/octet-stream',
    'content-disposition': `${isInline ? 'inline' : 'attachment'}${named}`,
    'content-security-policy': "default-src 'none'; sandbox",
    'x-content-type-options': 'nosniff',
    'cache-control': 'private, max-age=86400, immutable',
    'accept-ranges': 'bytes',
    etag,
  }
}
