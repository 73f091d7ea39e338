/**
 * Signed grants: a right to upload one object, or to see one, that stands in a URL until it expires. Each node signs with a key of its own
 * that all nodes can read, so a grant counts on every node and after a restart. `{claims}.{HMAC-SHA-256}.{node}`.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { isId } from '../../broker/topics.js'
import type { MediaRecords } from './media-records.js'

interface Claims {
  /** Of the object. */
  id: string
  user: string
  /** ms since 1970. */
  expires_ts: number
}

export interface UploadGrant extends Claims {
  for: 'upload'
  mime: string
  size: number
  name?: string
}

interface ViewGrant extends Claims {
  for: 'view'
}

export type Grant = UploadGrant | ViewGrant

const keyBytes = 32
/** Keys of other nodes that are remembered. */
const keysMax = 100

export class Grants {
  readonly #keys = new Map<string, Buffer>()
  #ownKey: Promise<Buffer> | undefined

  constructor(
    readonly node: string,
    readonly records: MediaRecords,
  ) {}

  /** Made on first need; no other node writes it. */
  async #makeKey(): Promise<Buffer> {
    const known = await this.#keyOf(this.node)
    if (known !== undefined) return known
    const made = randomBytes(keyBytes)
    await this.records.putSigningKey(this.node, made)
    return made
  }

  #own(): Promise<Buffer> {
    this.#ownKey ??= this.#makeKey().catch((error) => {
      this.#ownKey = undefined
      throw error
    })
    return this.#ownKey
  }

  async #keyOf(node: string): Promise<Buffer | undefined> {
    const known = this.#keys.get(node) ?? (await this.records.signingKey(node))
    if (known !== undefined && this.#keys.size < keysMax) this.#keys.set(node, known)
    return known
  }

  async sign(grant: Grant): Promise<string> {
    const claims = Buffer.from(JSON.stringify(grant)).toString('base64url')
    return `${claims}.${digestOf(claims, await this.#own())}.${this.node}`
  }

  /** The grant, also an expired one; undefined for what no node has signed. */
  async verify(text: string): Promise<Grant | undefined> {
    const [claims = '', given = '', ...rest] = text.split('.')
    const node = rest.join('.')
    const key = isId(node) ? await this.#keyOf(node) : undefined
    if (key === undefined) return undefined
    const right = Buffer.from(digestOf(claims, key))
    const candidate = Buffer.from(given)
    if (candidate.length !== right.length || !timingSafeEqual(candidate, right)) return undefined
    return JSON.parse(Buffer.from(claims, 'base64url').toString()) as Grant
  }
}

const digestOf = (claims: string, key: Buffer): string => createHmac('sha256', key).update(claims).digest('base64url')
