/**
 * Uploads: `media.upload` announces one and gives a URL that takes it once, within ten minutes; PUT on it takes the bytes. Until it has
 * succeeded it may be tried again. An object exists when its bytes are durable and its record is, too.
 */
import { randomBytes } from 'node:crypto'
import { Refusal, refuse } from '../../broker/errors.js'
import { type HttpAnswer, type HttpExchange, HttpRefusal } from '../../broker/http-route.js'
import { InTurn } from '../../broker/in-turn.js'
import { isErased } from '../../broker/known-user.js'
import type { UploadGrant } from './grants.js'
import type { MediaObject } from './media-records.js'
import { essenceOf, isAllowed, isOfKind, kindOf, type MediaKind } from './media-types.js'
import { bytesMaxOf, type MediaWorld, urlOf } from './media-world.js'

const grantMs = 600_000
const dayMs = 86_400_000
/** Each holds a socket and a file. */
const underWayMax = 256
const underWayOfUserMax = 8

const isDone = (): Refusal => refuse('conflict', 'this upload is done: the URL takes one only')

export interface UploadParams {
  mime: string
  size: number
  name?: string
  type?: MediaKind
}

export class Uploads {
  readonly #world: MediaWorld
  readonly #turns = new InTurn()
  /** User of each object that is being uploaded here. */
  readonly #underWay = new Map<string, string>()

  constructor(world: MediaWorld) {
    this.#world = world
  }

  get underWay(): number {
    return this.#underWay.size
  }

  /** Throws a Refusal for what will not be taken. */
  async announce(user: string, { mime, size, name, type }: UploadParams): Promise<object> {
    const { config, grants, now } = this.#world
    this.#objects()
    const essence = essenceOf(mime)
    const kind = type ?? kindOf(essence)
    if (!isAllowed(essence, config.mediaTypes))
      throw refuse('invalid', `${essence} is not taken here, only ${config.mediaTypes.join(', ')}`)
    if (!isOfKind(essence, kind))
      throw refuse('invalid', `${essence} is no type of ${kind === 'image' ? 'an image' : 'a voice message'}: send it as a file`)
    const bytesMax = bytesMaxOf(config, kind)
    if (size > bytesMax) throw refuse('too_large', `${size} bytes: type ${kind} has at most ${bytesMax}`)
    await this.#turns.run([user], () => this.#count(user, size))
    const id = randomBytes(16).toString('base64url')
    const expires_ts = now() + grantMs
    const grant = await grants.sign({ for: 'upload', id, user, expires_ts, mime: essence, size, ...(name === undefined ? {} : { name }) })
    const url = urlOf(config, id)
    return { upload_url: `${url}?upload=${grant}`, url, expires_ts }
  }

  async #count(user: string, size: number): Promise<void> {
    const { config, records, now } = this.#world
    const day = new Date(now()).toISOString().slice(0, 10)
    const usage = await records.usage(user)
    const bytes = (usage?.day === day ? usage.bytes : 0) + size
    if (bytes > config.mediaDayBytesMax) {
      const message = `you may upload ${config.mediaDayBytesMax} bytes a day, and have announced ${bytes - size}`
      throw refuse('rate_limited', message, dayMs - (now() % dayMs))
    }
    await records.putUsage(user, { day, bytes })
  }

  async put({ params, query, headers, body }: HttpExchange): Promise<HttpAnswer> {
    const { config, incoming, records } = this.#world
    const grant = await this.#granted(params.id as string, query.upload)
    const { id, user, mime, size } = grant
    const announced = headers['content-length']
    if (announced !== undefined && Number(announced) !== size) {
      throw refuse(Number(announced) > size ? 'too_large' : 'invalid', `${announced} bytes: media.upload was told of ${size}`)
    }
    if ((await records.object(id)) !== undefined) throw isDone()
    this.#begin(id, user)
    try {
      const object = await incoming.receive(body, mime, size, ({ path, sha256 }) => this.#keep(grant, path, sha256))
      return { status: 201, headers: {}, body: { url: urlOf(config, id), mime, size, sha256: object.sha256 } }
    } finally {
      this.#underWay.delete(id)
    }
  }

  async #granted(id: string, text = ''): Promise<UploadGrant> {
    const grant = await this.#world.grants.verify(text)
    if (grant?.for !== 'upload' || grant.id !== id) throw refuse('forbidden', 'only a URL that media.upload gave takes an upload')
    if (await isErased(this.#world.store.directory, grant.user)) throw refuse('forbidden', `there is no user ${grant.user} any more`)
    if (this.#world.now() > grant.expires_ts) throw new HttpRefusal(410, 'forbidden', 'the URL has expired: call media.upload again')
    return grant
  }

  #begin(id: string, user: string): void {
    if (this.#underWay.has(id)) throw refuse('conflict', 'this upload is under way already')
    const ofUser = [...this.#underWay.values()].filter((one) => one === user).length
    if (this.#underWay.size >= underWayMax || ofUser >= underWayOfUserMax) throw refuse('busy', 'too many uploads are under way; try again')
    this.#underWay.set(id, user)
  }

  async #keep({ id, user, mime, size, name }: UploadGrant, path: string, sha256: string): Promise<MediaObject> {
    const { records, metrics, now } = this.#world
    const ts = now()
    const object: MediaObject = { id, sha256, user, mime, size, ts, ...(name === undefined ? {} : { name }) }
    await records.putUnsettled({ id, sha256, ts })
    await this.#objects().put(object, path, size)
    // Another node may have taken one on the same URL meanwhile; bytes that are not its own are swept.
    if (!(await records.addObject(object))) throw isDone()
    metrics.kept(size)
    return object
  }

  #objects() {
    const { objects } = this.#world
    if (objects === undefined)
      throw new Refusal('unavailable', 'the nodes of this cluster share no place for media: PARLEY_MEDIA_S3_ENDPOINT is not set')
    return objects
  }
}
