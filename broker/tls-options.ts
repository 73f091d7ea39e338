/**
 * How TLS is spoken here: version 1.2 or 1.3, with forward secrecy and authenticated encryption only, and without renegotiation.
 * Reads certificate and key from their files and tells in words what is wrong with them, both at once. Called by the
 * configuration, so that a wrong file is a fault at start, and again whenever the files change.
 */
import { constants, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureVersion } from 'node:tls'
import { OperatorError } from './operator-error.js'

export interface TlsFiles {
  /** Path of the certificate, with those that lead to its root behind it, as PEM. */
  readonly cert: string
  /** Path of its private key, as PEM. */
  readonly key: string
}

export interface TlsOptions {
  readonly cert: string
  readonly key: string
  readonly minVersion: SecureVersion
  readonly ciphers: string
  readonly honorCipherOrder: boolean
  readonly secureOptions: number
}

/** Why certificate or key cannot be used. */
export class TlsError extends OperatorError {
  override name = 'TlsError'

  constructor(readonly faults: readonly string[]) {
    super(faults.join('\n'))
  }
}

const suites = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
]

const rules = {
  minVersion: 'TLSv1.2',
  ciphers: suites.join(':'),
  // All of them are good, and a client knows best which one its processor is fast at.
  honorCipherOrder: false,
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
} as const

/** Throws TlsError. */
export function readTlsOptions(files: TlsFiles): TlsOptions {
  const faults: string[] = []
  const attempt = <T>(setting: string, path: string, parse: (pem: string) => T): { pem: string; value: T } | undefined => {
    try {
      const pem = readFileSync(path, 'utf8')
      return { pem, value: parse(pem) }
    } catch (error) {
      const { code, syscall, message } = error as NodeJS.ErrnoException
      faults.push(`${setting} is ${JSON.stringify(path)}: ${syscall === undefined ? message : `the file cannot be read (${code})`}`)
      return undefined
    }
  }
  const cert = attempt('PARLEY_TLS_CERT', files.cert, parseCertificate)
  const key = attempt('PARLEY_TLS_KEY', files.key, parseKey)
  if (cert !== undefined && key !== undefined) {
    const options = { ...rules, cert: cert.pem, key: key.pem }
    const fault = faultOfPair(cert.value, key.value, options)
    if (fault === undefined) return options
    faults.push(`PARLEY_TLS_CERT is ${JSON.stringify(files.cert)}, PARLEY_TLS_KEY is ${JSON.stringify(files.key)}: ${fault}`)
  }
  throw new TlsError(faults)
}

/** Of settings that belong together: both are set and usable, or none is. */
export function faultsOfTls(cert: string | undefined, key: string | undefined): readonly string[] {
  if (cert === undefined && key === undefined) return []
  if (cert === undefined) return ['PARLEY_TLS_KEY is set without PARLEY_TLS_CERT: TLS needs both, the certificate and its key']
  if (key === undefined) return ['PARLEY_TLS_CERT is set without PARLEY_TLS_KEY: TLS needs both, the certificate and its key']
  try {
    readTlsOptions({ cert, key })
    return []
  } catch (error) {
    if (error instanceof TlsError) return error.faults
    throw error
  }
}

function parseCertificate(pem: string): X509Certificate {
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new Error('the file has no certificate in PEM form')
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new Error('its certificate cannot be read', { cause: error })
  }
}

function parseKey(pem: string): KeyObject {
  if (!pem.includes('PRIVATE KEY-----')) throw new Error('the file has no private key in PEM form')
  if (pem.includes('ENCRYPTED')) throw new Error('the key has a passphrase; Parley needs it without')
  try {
    return createPrivateKey(pem)
  } catch (error) {
    throw new Error('its private key cannot be read', { cause: error })
  }
}

function faultOfPair(certificate: X509Certificate, key: KeyObject, options: TlsOptions): string | undefined {
  if (!certificate.checkPrivateKey(key)) return 'the key is not that of the first certificate in the file'
  try {
    createSecureContext(options)
    return undefined
  } catch (error) {
    const { reason, message } = error as Error & { reason?: string }
    return `TLS does not take them (${reason ?? message})`
  }
}
