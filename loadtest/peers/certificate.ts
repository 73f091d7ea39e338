/**
 * Makes a certificate for a run: its own issuer, with a key on P-256, good for a day and for 127.0.0.1 and localhost. Node can sign
 * but has nothing that writes X.509, so the few DER structures that such a certificate has (RFC 5280) are spelled here.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface CertificateOptions {
  /** The common name. */
  name?: string
  notBefore?: Date
  notAfter?: Date
}

/** Both as PEM. */
export interface MadeCertificate {
  cert: string
  key: string
}

export interface CertificateFiles {
  certFile: string
  keyFile: string
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const tag = {
  boolean: 1,
  integer: 2,
  bitString: 3,
  octetString: 4,
  oid: 6,
  utf8String: 12,
  utcTime: 23,
  sequence: 0x30,
  set: 0x31,
} as const
const context = (number: number): number => 0x80 | number
const constructed = (number: number): number => 0xa0 | number
/** As DER has them: 2.5.4.3, 1.2.840.10045.4.3.2, 2.5.29.19, 2.5.29.17. */
const oid = { commonName: '550403', ecdsaWithSha256: '2a8648ce3d040302', basicConstraints: '551d13', subjectAltName: '551d11' } as const

/** Tag, length, content. */
function der(code: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents)
  const size = content.length
  if (size < 128) return Buffer.concat([Buffer.from([code, size]), content])
  return Buffer.concat([size < 256 ? Buffer.from([code, 0x81, size]) : Buffer.from([code, 0x82, size >> 8, size & 0xff]), content])
}

const sequence = (...contents: Uint8Array[]): Buffer => der(tag.sequence, ...contents)
const objectId = (hex: string): Buffer => der(tag.oid, Buffer.from(hex, 'hex'))
/** Whole bytes: no bit is unused. */
const bits = (bytes: Uint8Array): Buffer => der(tag.bitString, Buffer.from([0]), bytes)
/** YYMMDDHHMMSSZ; years from 2050 on would need another type. */
const time = (date: Date): Buffer => der(tag.utcTime, Buffer.from(`${date.toISOString().replace(/\D/g, '').slice(2, 14)}Z`))
const pem = (bytes: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`

function extensions(): Buffer {
  const isAuthority = sequence(der(tag.boolean, Buffer.from([0xff])))
  const names = sequence(der(context(2), Buffer.from('localhost')), der(context(7), Buffer.from([127, 0, 0, 1])))
  return sequence(
    sequence(objectId(oid.basicConstraints), der(tag.boolean, Buffer.from([0xff])), der(tag.octetString, isAuthority)),
    sequence(objectId(oid.subjectAltName), der(tag.octetString, names)),
  )
}

function encode(name: string, from: Date, to: Date, publicKey: KeyObject, privateKey: KeyObject): Buffer {
  const algorithm = sequence(objectId(oid.ecdsaWithSha256))
  const subject = sequence(der(tag.set, sequence(objectId(oid.commonName), der(tag.utf8String, Buffer.from(name)))))
  const serial = randomBytes(16)
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40 // positive, and no leading zeros
  const body = sequence(
    der(constructed(0), der(tag.integer, Buffer.from([2]))), // version 3
    der(tag.integer, serial),
    algorithm,
    subject,
    sequence(time(from), time(to)),
    subject,
    publicKey.export({ format: 'der', type: 'spki' }),
    der(constructed(3), extensions()),
  )
  return sequence(body, algorithm, bits(sign('sha256', body, privateKey)))
}

export function makeCertificate(options: CertificateOptions = {}): MadeCertificate {
  const now = Date.now()
  const { name = 'parley test', notBefore = new Date(now - hourMs), notAfter = new Date(now + dayMs) } = options
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const certificate = encode(name, notBefore, notAfter, publicKey, privateKey)
  return { cert: pem(certificate), key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() }
}

const filesIn = (folder: string): CertificateFiles => ({ certFile: join(folder, 'tls-cert.pem'), keyFile: join(folder, 'tls-key.pem') })

/** Writes both into a folder, the key for its owner only. Replaces what is there. */
export async function writeCertificate(folder: string, { cert, key }: MadeCertificate): Promise<CertificateFiles> {
  const files = filesIn(folder)
  await writeFile(files.certFile, cert)
  await writeFile(files.keyFile, key, { mode: 0o600 })
  await chmod(files.keyFile, 0o600)
  return files
}

/** What was written there. */
export function readCertificate(folder: string): MadeCertificate {
  const { certFile, keyFile } = filesIn(folder)
  return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
}
