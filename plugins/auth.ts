/**
 * Gate `authenticate`: who a token speaks for. The configuration names the one source of trust (HS256 secret, public
 * key or JWKS URL) and thereby the algorithms; nothing in a token changes how it is verified. When a key or the
 * revocation date cannot be read, the token is refused. A client always hears the same words; the log has the reason.
 */
import { createSecretKey, webcrypto } from 'node:crypto'
import { createRemoteJWKSet, customFetch, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions, jwtVerify } from 'jose'
import type { Config } from '../broker/config.js'
import { type Refusal, refuse } from '../broker/errors.js'
import { type ClaimRules, verifyHs256 } from '../broker/hs256.js'
import type { Identity, Plugin, PluginServer } from '../broker/plugin.js'
import { parsePublicKey } from '../broker/public-key.js'
import { loadSecret } from '../broker/secret.js'
import { StoreUnavailable } from '../broker/store/store.js'
import { isId } from '../broker/topics.js'

const tokenBytesMax = 8192
const leewaySeconds = 5
const fetchTimeoutMs = 5000

export interface JwksPace {
  /** An unknown key id causes no second read within this time of a successful one. */
  cooldownMs: number
  /** After a failed read every token is refused for this time without another try. */
  failureCooldownMs: number
}

type Verify = (token: string) => Promise<JWTPayload> | JWTPayload
type AuthServer = Pick<PluginServer, 'config' | 'logger' | 'store'>

/** The token was verified, and still does not say what it must. */
class UnfitToken extends Error {}

export function auth(server: AuthServer, pace: JwksPace = { cooldownMs: 30_000, failureCooldownMs: 1000 }): Plugin {
  const verify = createVerify(server.config, pace)

  async function authenticate(token: string): Promise<Identity | Refusal> {
    try {
      if (token.length > tokenBytesMax) throw new UnfitToken(`it has more than ${tokenBytesMax} bytes`)
      const identity = identityOf(await verify(token))
      if (identity.user !== '') identity.isKnown = await isKnownAndNotRevoked(server, identity)
      return identity
    } catch (error) {
      if (error instanceof StoreUnavailable) return refuse('unavailable', 'the store cannot be reached; try again later')
      const { code, message } = error as Error & { code?: string }
      server.logger.info({ code, reason: message }, 'token refused')
      return refuse('forbidden', 'the token is not valid')
    }
  }

  return { name: 'auth', authenticate }
}

function createVerify(config: Config, pace: JwksPace): Verify {
  const common: ClaimRules & JWTVerifyOptions = { clockTolerance: leewaySeconds }
  if (config.jwtIssuer !== undefined) common.issuer = config.jwtIssuer
  if (config.jwtAudience !== undefined) common.audience = config.jwtAudience

  if (config.jwksUrl !== undefined) {
    const keys = remoteKeys(new URL(config.jwksUrl), pace)
    return async (token) => (await jwtVerify(token, keys, { ...common, algorithms: ['RS256', 'ES256', 'EdDSA'] })).payload
  }
  if (config.jwtPublicKey !== undefined) {
    const { key, algorithm } = parsePublicKey(config.jwtPublicKey)
    return async (token) => (await jwtVerify(token, key, { ...common, algorithms: [algorithm] })).payload
  }
  const secret = Buffer.from(config.jwtSecret ?? loadSecret(config.dataDir).secret)
  // Imported once: from bytes it would be imported anew for each token.
  const key = webcrypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
  const verifySlowly = async (token: string): Promise<JWTPayload> =>
    (await jwtVerify(token, await key, { ...common, algorithms: ['HS256'] })).payload
  const hmacKey = createSecretKey(secret)
  return (token) => verifyHs256(token, hmacKey, common) ?? verifySlowly(token)
}

/** jose has a cooldown only after a success: without one after a failure, each connect would hit a dead issuer. */
function remoteKeys(url: URL, pace: JwksPace): JWTVerifyGetKey {
  let failedMs = Number.NEGATIVE_INFINITY
  return createRemoteJWKSet(url, {
    timeoutDuration: fetchTimeoutMs,
    cooldownDuration: pace.cooldownMs,
    [customFetch]: async (resource, options) => {
      if (performance.now() - failedMs < pace.failureCooldownMs) throw new Error('the keys could not be read a moment ago')
      try {
        const response = await fetch(resource, options)
        if (response.status !== 200) throw new Error(`the keys cannot be read: ${resource} answers ${response.status}`)
        return response
      } catch (error) {
        failedMs = performance.now()
        throw error
      }
    },
  })
}

function identityOf(claims: JWTPayload): Identity {
  const admin = typeof claims.scope === 'string' && claims.scope.split(' ').includes('admin')
  if (claims.sub === undefined && !admin) throw new UnfitToken('it has no sub')
  if (claims.sub !== undefined && (typeof claims.sub !== 'string' || !isId(claims.sub))) throw new UnfitToken('its sub is not a user id')
  const identity: Identity = { user: claims.sub ?? '', admin }
  if (claims.exp !== undefined) identity.expiresTs = claims.exp * 1000
  if (claims.iat !== undefined) identity.issuedAt = claims.iat
  return identity
}

/** False for a new user; throws when his tokens hold no more. */
async function isKnownAndNotRevoked(server: AuthServer, { user, issuedAt }: Identity): Promise<boolean> {
  const record = await server.store.directory.user(user)
  if (record === undefined) return false
  const { tokensFrom, erasedTs } = record
  if (erasedTs !== undefined) throw new UnfitToken('the user was erased')
  if (tokensFrom === undefined) return true
  if (issuedAt === undefined) throw new UnfitToken('it has no iat, and tokens of this user were revoked')
  if (issuedAt < tokensFrom) throw new UnfitToken('it was issued before the tokens of this user were revoked')
  return true
}
