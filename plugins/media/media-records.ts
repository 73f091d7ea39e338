/**
 * What the store keeps of media, the only file that knows these keys:
 *  - `media-objects/{id}`: an object that was uploaded.
 *  - `media-unsettled/{id}/{hash}/{time}`: bytes that are there, or about to be, and that nobody has been seen to refer to. By time, so that
 *    who has judged an earlier one does not take away what was added meanwhile.
 *  - `media-refs/{id}/{conv}/{digest}`: a message that refers to an object, written before the message. The message may have been refused;
 *    the log says.
 *  - `media-recalls/{conv}/{seq}/{from}`: the last recall of such a message that this user sent; written before it, like a ref.
 *  - `media-edits/{conv}/{seq}/{id}`: an object that an edit of this message shows, written before the edit; a recall needs to find it.
 *  - `media-avatars/{id}/{address}`: a user or group whose picture it is, was, or was about to be; written before it is set.
 *  - `media-usage/{user}`: bytes that the user asked to upload today.
 *  - `media-keys/{node}`: with which a node signs URLs.
 */
import { createHash } from 'node:crypto'
import type { KeyValueStore } from '../../broker/store/store.js'
import type { Address, ConversationId } from '../../broker/topics.js'
import type { ObjectName } from './object-store.js'

export interface MediaObject extends ObjectName {
  user: string
  /** Without parameters, lower case. */
  mime: string
  size: number
  name?: string
  ts: number
  /** Since then nobody refers to it, and nobody may begin to. */
  doomedTs?: number
}

/** Names a send: what it stored, if anything, is found in the log. */
export interface MediaRef {
  conv: ConversationId
  from: string
  id: string
  ts: number
}

export interface MediaAvatar {
  of: Address
  ts: number
}

export interface Unsettled extends ObjectName {
  ts: number
}

/** One that was read. */
export interface KeptUnsettled extends Unsettled {
  key: string
}

export interface Usage {
  /** Of the calendar, UTC. */
  day: string
  bytes: number
}

const objectKey = (id: string): string => `media-objects/${id}`
const unsettledPrefix = 'media-unsettled/'
const unsettledKey = ({ id, sha256, ts }: Unsettled): string => `${unsettledPrefix}${id}/${sha256}/${ts}`
const digestOf = (from: string, id: string): string => createHash('sha256').update(`${from}\0${id}`).digest('hex').slice(0, 32)
const refKey = (object: string, { conv, from, id }: MediaRef): string => `media-refs/${object}/${conv}/${digestOf(from, id)}`
const recallsKey = (conv: ConversationId, seq: number): string => `media-recalls/${conv}/${seq}/`
const editsKey = (conv: ConversationId, seq: number): string => `media-edits/${conv}/${seq}/`
const avatarsKey = (object: string): string => `media-avatars/${object}/`
const usageKey = (user: string): string => `media-usage/${user}`
const signingKey = (node: string): string => `media-keys/${node}`

const encode = (record: object): Buffer => Buffer.from(JSON.stringify(record))
/** What is read was written by `encode`, under a key of that kind. */
const decode = <T>(value: Buffer | undefined): T | undefined => (value === undefined ? undefined : (JSON.parse(value.toString()) as T))

export class MediaRecords {
  constructor(readonly records: KeyValueStore) {}

  async object(id: string): Promise<MediaObject | undefined> {
    return decode(await this.records.get(objectKey(id)))
  }

  /** Of two at once, on whichever nodes, one is told true. */
  addObject(object: MediaObject): Promise<boolean> {
    return this.records.add(objectKey(object.id), encode(object))
  }

  putObject(object: MediaObject): Promise<void> {
    return this.records.put(objectKey(object.id), encode(object))
  }

  removeObject(id: string): Promise<void> {
    return this.records.remove(objectKey(id))
  }

  objects(): AsyncGenerator<MediaObject, void> {
    return this.#rows(objectKey(''))
  }

  putUnsettled(unsettled: Unsettled): Promise<void> {
    return this.records.put(unsettledKey(unsettled), encode(unsettled))
  }

  removeUnsettled({ key }: KeptUnsettled): Promise<void> {
    return this.records.remove(key)
  }

  async *unsettled(): AsyncIterable<KeptUnsettled> {
    for await (const { key, value } of this.records.entries(unsettledPrefix)) {
      yield { ...(JSON.parse(value.toString()) as Unsettled), key }
    }
  }

  putRef(object: string, ref: MediaRef): Promise<void> {
    return this.records.put(refKey(object, ref), encode(ref))
  }

  removeRef(object: string, ref: MediaRef): Promise<void> {
    return this.records.remove(refKey(object, ref))
  }

  refs(object: string): AsyncIterable<MediaRef> {
    return this.#rows(`media-refs/${object}/`)
  }

  putRecall(recall: MediaRef, seq: number): Promise<void> {
    return this.records.put(`${recallsKey(recall.conv, seq)}${recall.from}`, encode(recall))
  }

  recalls(conv: ConversationId, seq: number): AsyncIterable<MediaRef> {
    return this.#rows(recallsKey(conv, seq))
  }

  putEditedInto(conv: ConversationId, seq: number, object: string): Promise<void> {
    return this.records.put(editsKey(conv, seq) + object, Buffer.from('{}'))
  }

  async *editedInto(conv: ConversationId, seq: number): AsyncIterable<string> {
    const prefix = editsKey(conv, seq)
    for await (const { key } of this.records.entries(prefix)) yield key.slice(prefix.length)
  }

  putAvatar(object: string, avatar: MediaAvatar): Promise<void> {
    return this.records.put(avatarsKey(object) + avatar.of, encode(avatar))
  }

  removeAvatar(object: string, { of }: MediaAvatar): Promise<void> {
    return this.records.remove(avatarsKey(object) + of)
  }

  avatars(object: string): AsyncIterable<MediaAvatar> {
    return this.#rows(avatarsKey(object))
  }

  async usage(user: string): Promise<Usage | undefined> {
    return decode(await this.records.get(usageKey(user)))
  }

  removeUsage(user: string): Promise<void> {
    return this.records.remove(usageKey(user))
  }

  putUsage(user: string, usage: Usage): Promise<void> {
    return this.records.put(usageKey(user), encode(usage))
  }

  signingKey(node: string): Promise<Buffer | undefined> {
    return this.records.get(signingKey(node))
  }

  putSigningKey(node: string, key: Buffer): Promise<void> {
    return this.records.put(signingKey(node), key)
  }

  async *#rows<Row>(prefix: string): AsyncGenerator<Row, void> {
    for await (const { value } of this.records.entries(prefix)) yield JSON.parse(value.toString()) as Row
  }
}
