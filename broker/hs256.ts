/**
 * Verifies HS256 tokens without the thread pool: jose's way there and back was the largest single cost of a connect (docs/performance.md).
 * Only says yes, and only to a token that jose would accept, too: of a token that it does not know as good the caller asks jose, which finds the words.
 * The claims (exp, nbf, iss, aud) are judged by jose at every call; nothing is remembered of a token.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { type JWTClaimVerificationOptions, type JWTPayload, UnsecuredJWT } from 'jose'

/** A header with any other field (`crit`, `b64`, `kid`) is jose's to judge. */
const plainHeaders = new Set(
  ['{"alg":"HS256"}', '{"alg":"HS256","typ":"JWT"}', '{"typ":"JWT","alg":"HS256"}'].map((text) => Buffer.from(text).toString('base64url')),
)
const unsecuredHeader = Buffer.from('{"alg":"none"}').toString('base64url')
/** A SHA-256 in base64url. */
const signatureLength = 43

/** The claims; undefined when this is not for sure a token that the key has signed. Throws what jose throws for claims that do not hold. */
export function verifyHs256(token: string, key: KeyObject, options: JWTClaimVerificationOptions): JWTPayload | undefined {
  const headerEnd = token.indexOf('.')
  const signedEnd = token.length - signatureLength - 1
  if (signedEnd <= headerEnd || token[signedEnd] !== '.' || !plainHeaders.has(token.slice(0, headerEnd))) return undefined
  const given = Buffer.from(token.slice(signedEnd + 1))
  const right = Buffer.from(createHmac('sha256', key).update(token.slice(0, signedEnd)).digest('base64url'))
  if (given.length !== right.length || !timingSafeEqual(given, right)) return undefined
  // The signature holds: what is left to judge is a token without one.
  return UnsecuredJWT.decode(`${unsecuredHeader}${token.slice(headerEnd, signedEnd)}.`, options).payload
}
