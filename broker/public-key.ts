/**
 * Reads the public key that tokens are verified with. The key's type alone decides the one algorithm that is
 * accepted, so a token can never choose how it is verified. Called by the configuration (which refuses a bad key
 * at start) and by the auth plugin.
 */
import { createPublicKey, type KeyObject } from 'node:crypto'

export interface PublicKey {
  key: KeyObject
  algorithm: 'RS256' | 'ES256' | 'EdDSA'
}

const rsaBitsMin = 2048

export const publicKeyRule =
  'a public key in PEM form or the path of such a file: RSA from 2048 bits (RS256), P-256 (ES256) or Ed25519 (EdDSA)'

/** Throws an Error that says what is wrong; it never quotes the key. */
export function parsePublicKey(pem: string): PublicKey {
  if (pem.includes('PRIVATE KEY')) throw new Error('this is a private key; Parley needs only the public one')
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch (error) {
    throw new Error('it cannot be read as a PEM public key', { cause: error })
  }
  return { key, algorithm: algorithmOf(key) }
}

function algorithmOf(key: KeyObject): PublicKey['algorithm'] {
  const details = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (key.asymmetricKeyType === 'ec') {
    if (details.namedCurve === 'prime256v1') return 'ES256'
    throw new Error(`its curve is ${details.namedCurve}; only P-256 is accepted`)
  }
  if (key.asymmetricKeyType === 'rsa') {
    if ((details.modulusLength ?? 0) >= rsaBitsMin) return 'RS256'
    throw new Error(`its RSA modulus has ${details.modulusLength} bits; at least ${rsaBitsMin} are needed`)
  }
  throw new Error(`its type ${key.asymmetricKeyType} is not accepted`)
}
