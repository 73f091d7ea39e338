/**
 * Gate of messages that name objects. An image, voice or file message, or an edit of one, must name an object that exists, is what the
 * message says, and that its sender may see; the ref that lets the receivers see it is durable before the message is. A recall of such a
 * message is noted in the same way. What a foreign URL names is not known here.
 */
import { type Refusal, refuse } from '../../broker/errors.js'
import type { MessageDraft, PrepareMessage } from '../../broker/plugin.js'
import { essenceOf, isOfKind, type MediaKind } from './media-types.js'
import { bytesMaxOf, idOfUrl, type MediaWorld, notThere } from './media-world.js'
import { objectsNamedIn } from './named-objects.js'
import { unsettle } from './unsettle.js'

interface MediaBody {
  url: string
  mime: string
  size: number
  /** Of an image: a small one, by URL, or in a form of the application's own. */
  thumb?: string
}

/** So often an object can be sent. */
const refsMax = 1000

export class Attachments {
  readonly #world: MediaWorld
  /** By type of message. */
  readonly prepare: Record<string, PrepareMessage>

  constructor(world: MediaWorld) {
    this.#world = world
    const asKind = (kind: MediaKind) => (draft: MessageDraft) => this.#attach(draft, draft.body as MediaBody, kind)
    this.prepare = {
      image: asKind('image'),
      voice: asKind('voice'),
      file: asKind('file'),
      edit: async (draft) => {
        const { body } = draft.body as { body: unknown }
        return typeof body === 'object' && body !== null && 'url' in body ? this.#edit(draft, body) : undefined
      },
      recall: (draft) => this.#recall(draft, (draft.body as { seq: number }).seq),
    }
  }

  /** The form of the body tells its kind; the log writer compares it with the message that is edited. */
  async #edit(draft: MessageDraft, body: object): Promise<Refusal | undefined> {
    const { url, mime, size } = body as Record<string, unknown>
    if (typeof url !== 'string' || typeof mime !== 'string' || typeof size !== 'number') return undefined
    const kind: MediaKind = 'width' in body ? 'image' : 'duration_ms' in body ? 'voice' : 'file'
    return this.#attach(draft, body as MediaBody, kind, (draft.body as { seq: number }).seq)
  }

  /** `edited`: seq of the message that shows these objects from now on. */
  async #attach(draft: MessageDraft, body: MediaBody, kind: MediaKind, edited?: number): Promise<Refusal | undefined> {
    const { config, store } = this.#world
    const ids = new Set<string>()
    const id = idOfUrl(config, body.url)
    const thumb = typeof body.thumb === 'string' ? idOfUrl(config, body.thumb) : undefined
    if (id === undefined && config.mediaForeignUrls === 'refuse') return refuse('invalid', 'body.url: not one that media.upload gave')
    let refusal: Refusal | undefined
    if (id !== undefined) {
      refusal = await this.#judge(draft.from, id, kind, body)
      ids.add(id)
    }
    if (thumb !== undefined) {
      refusal ??= await this.#judge(draft.from, thumb, 'image')
      ids.add(thumb)
    }
    if (refusal === undefined) {
      if (edited !== undefined) for (const one of ids) await this.#world.records.putEditedInto(draft.conv, edited, one)
      for (const one of ids) refusal ??= await this.#refer(one, draft)
      if (refusal === undefined) return undefined
    }
    // A resend of what was stored is answered as such, whatever has become of the object since.
    return (await store.log.findSent(draft.conv, draft.from, draft.id)) === undefined ? refusal : undefined
  }

  /** `said`: what the message says of the object. */
  async #judge(user: string, id: string, kind: MediaKind, said?: MediaBody): Promise<Refusal | undefined> {
    const { config, records, access } = this.#world
    const object = await records.object(id)
    if (object === undefined) return notThere(id)
    if (object.doomedTs !== undefined) return refuse('not_found', `the object ${id} was never sent and is being removed: upload it again`)
    if (!(await access.mayRead(user, object))) return refuse('forbidden', `you may not see the object ${id}`)
    if (!isOfKind(object.mime, kind)) return refuse('invalid', `the object is ${object.mime}, which is no ${kind}`)
    if (object.size > bytesMaxOf(config, kind)) return refuse('too_large', `type ${kind} has at most ${bytesMaxOf(config, kind)} bytes`)
    if (said === undefined) return undefined
    if (essenceOf(said.mime) !== object.mime) return refuse('invalid', `body.mime is ${said.mime}, but the object is ${object.mime}`)
    return said.size === object.size ? undefined : refuse('invalid', `body.size is ${said.size}, but the object has ${object.size} bytes`)
  }

  async #refer(object: string, { conv, from, id }: MessageDraft): Promise<Refusal | undefined> {
    const { records, now } = this.#world
    let refs = 0
    for await (const _ of records.refs(object)) refs++
    if (refs >= refsMax) return refuse('invalid', `the object was sent ${refsMax} times: upload it again`)
    await records.putRef(object, { conv, from, id, ts: now() })
    return undefined
  }

  async #recall({ conv, from, id }: MessageDraft, seq: number): Promise<undefined> {
    const { config, records, access, store, now } = this.#world
    const [target] = await store.log.read(conv, seq, seq, 1)
    const named = target === undefined ? [] : objectsNamedIn(config, target.payload)
    for await (const object of records.editedInto(conv, seq)) named.push(object)
    if (named.length === 0) return undefined
    for await (const earlier of records.recalls(conv, seq)) {
      if (earlier.from === from && (await access.isRecallOf(earlier, seq))) return undefined
    }
    const ts = now()
    await records.putRecall({ conv, from, id, ts }, seq)
    await unsettle(this.#world, named)
    return undefined
  }
}
