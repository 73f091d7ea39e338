/**
 * Verifies HS256 tokens without the thread pool, and claims of the usual kind without jose: its way there and back was the largest single cost
 * of a connect (docs/performance.md). Only says yes, and only to what jose would accept, too: what it does not know as good the caller, or
 * it itself, gives to jose, which finds the words. Claims are judged at every call; nothing is remembered of a token.
 */
import * as crypto from 'node:crypto'
import { type JWTPayload, UnsecuredJWT } from 'jose'

/** A header with any other field (`crit`, `b64`, `kid`) is jose's to judge. */
const plainHeaders = new Set(
  ['{"alg":"HS256"}', '{"alg":"HS256","typ":"JWT"}', '{"typ":"JWT","alg":"HS256"}'].map((text) => Buffer.from(text).toString('base64url')),
)
const unsecuredHeader = Buffer.from('{"alg":"none"}').toString('base64url')
/** A SHA-256 in base64url. */
const signatureLength = 43
const base64url = /^[\w-]*$/

export interface ClaimRules {
  issuer?: string
  audience?: string
  /** Seconds. */
  clockTolerance?: number
  /** Absent: now. */
  currentDate?: Date
}

export class Hs256 {
  readonly #sign: (text: string) => string

  constructor(secret: Buffer) {
    this.#sign = createHmac(secret)
  }

  /** The claims; undefined when this is not for sure a token that the secret has signed. Throws what jose throws for claims that do not hold. */
  verify(token: string, rules: ClaimRules): JWTPayload | undefined {
    const headerEnd = token.indexOf('.')
    const signedEnd = token.length - signatureLength - 1
    if (signedEnd <= headerEnd || token[signedEnd] !== '.' || !plainHeaders.has(token.slice(0, headerEnd))) return undefined
    const claims = token.slice(headerEnd + 1, signedEnd)
    if (!base64url.test(claims)) return undefined
    if (!isSame(this.#sign(token.slice(0, signedEnd)), token.slice(signedEnd + 1))) return undefined
    // The signature holds: what is left to judge is a token without one.
    return usualClaims(claims, rules) ?? UnsecuredJWT.decode(`${unsecuredHeader}.${claims}.`, rules).payload
  }
}

const blockBytes = 64
const digestBytes = 32

/**
 * HMAC-SHA-256 [RFC 2104] of ASCII text, in base64url. By Node's digest in one call, which costs half of `createHmac`: that makes a stream for
 * every message. Older than 20.12 Node has no such call.
 */
function createHmac(secret: Buffer): (text: string) => string {
  if (crypto.hash === undefined) return (text) => crypto.createHmac('sha256', secret).update(text).digest('base64url')
  const key = Buffer.alloc(blockBytes)
  key.set(secret.length > blockBytes ? crypto.createHash('sha256').update(secret).digest() : secret)
  const inner = key.map((byte) => byte ^ 0x36)
  const outer = Buffer.concat([key.map((byte) => byte ^ 0x5c), Buffer.alloc(digestBytes)])
  return (text) => {
    const message = Buffer.allocUnsafe(blockBytes + text.length)
    message.set(inner)
    message.write(text, blockBytes, 'latin1')
    outer.write(crypto.hash('sha256', message, 'binary'), blockBytes, 'latin1')
    return crypto.hash('sha256', outer, 'base64url')
  }
}

/** Takes as long for any two texts of a length. */
function isSame(right: string, given: string): boolean {
  let difference = right.length ^ given.length
  for (let i = 0; i < right.length; i++) difference |= right.charCodeAt(i) ^ given.charCodeAt(i)
  return difference === 0
}

/** Claims that hold whatever the clock tolerance is, and whose issuer and audience are one text each; undefined for all others. */
function usualClaims(encoded: string, { issuer, audience, currentDate }: ClaimRules): JWTPayload | undefined {
  let claims: JWTPayload | null
  try {
    claims = JSON.parse(Buffer.from(encoded, 'base64url').toString())
  } catch {
    return undefined
  }
  if (typeof claims !== 'object' || claims === null || Array.isArray(claims)) return undefined
  const { exp, iat, nbf, iss, aud } = claims
  if (exp !== undefined && !(typeof exp === 'number' && exp > (currentDate?.getTime() ?? Date.now()) / 1000)) return undefined
  if (nbf !== undefined || (iat !== undefined && typeof iat !== 'number')) return undefined
  return (issuer === undefined || iss === issuer) && (audience === undefined || aud === audience) ? claims : undefined
}
