/**
 * Verifies HS256 tokens without the thread pool, and claims of the usual kind without jose: its way there and back was the largest single cost
 * of a connect (docs/performance.md). Only says yes, and only to what jose would accept, too: what it does not know as good the caller, or
 * it itself, gives to jose, which finds the words. Claims are judged at every call; nothing is remembered of a token.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
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

/** The claims; undefined when this is not for sure a token that the key has signed. Throws what jose throws for claims that do not hold. */
export function verifyHs256(token: string, key: KeyObject, rules: ClaimRules): JWTPayload | undefined {
  const headerEnd = token.indexOf('.')
  const signedEnd = token.length - signatureLength - 1
  if (signedEnd <= headerEnd || token[signedEnd] !== '.' || !plainHeaders.has(token.slice(0, headerEnd))) return undefined
  const claims = token.slice(headerEnd + 1, signedEnd)
  if (!base64url.test(claims)) return undefined
  const given = Buffer.from(token.slice(signedEnd + 1))
  const right = Buffer.from(createHmac('sha256', key).update(token.slice(0, signedEnd)).digest('base64url'))
  if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined
  // The signature holds: what is left to judge is a token without one.
  return usualClaims(claims, rules) ?? UnsecuredJWT.decode(`${unsecuredHeader}.${claims}.`, rules).payload
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
