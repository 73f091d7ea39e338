/**
 * Mints HS256 tokens for the command line, the banner and the admin API. The auth plugin verifies them.
 */
import { createSecretKey } from 'node:crypto'
import { SignJWT } from 'jose'

export interface TokenRequest {
  secret: string
  /** '' makes a token without `sub`, which only an admin may have. */
  user: string
  expiresInSeconds: number
  scope?: string | undefined
  issuer?: string | undefined
  audience?: string | undefined
}

export async function mintToken(request: TokenRequest): Promise<string> {
  const issuedAt = Math.floor(Date.now() / 1000)
  const token = new SignJWT(request.scope === undefined ? {} : { scope: request.scope })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + request.expiresInSeconds)
  if (request.user !== '') token.setSubject(request.user)
  if (request.issuer !== undefined) token.setIssuer(request.issuer)
  if (request.audience !== undefined) token.setAudience(request.audience)
  return token.sign(createSecretKey(Buffer.from(request.secret)))
}
