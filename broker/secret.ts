/**
 * The generated HS256 secret: a file in the data folder that only its owner can read. Made once, on first need;
 * processes that start at the same time all end up with the same one. Called by the auth plugin and the command
 * line when the configuration names neither a secret nor a key.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { makeDir } from './make-dir.js'
import { OperatorError } from './operator-error.js'

const secretBytes = 48
const secretBytesMin = 32

/** The secret cannot be read or made; the message says what to do. */
export class SecretError extends OperatorError {
  override name = 'SecretError'
}

export interface Secret {
  secret: string
  path: string
  /** This call made it. */
  created: boolean
}

/** Reads `<dataDir>/jwt-secret` or makes it. Throws SecretError. */
export function loadSecret(dataDir: string): Secret {
  const path = join(dataDir, 'jwt-secret')
  try {
    makeDir(dataDir)
  } catch (error) {
    throw new SecretError(`The data directory ${dataDir} cannot be used: ${(error as Error).message}`, { cause: error })
  }
  try {
    const created = create(path)
    return { secret: read(path), path, created }
  } catch (error) {
    if (error instanceof SecretError) throw error
    throw new SecretError(`The secret file ${path} cannot be used: ${(error as Error).message}`, { cause: error })
  }
}

/** A link either makes the whole file or fails because another process was faster; nobody sees half a secret. */
function create(path: string): boolean {
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return false
  const draft = `${path}.${process.pid}.${randomBytes(6).toString('hex')}`
  const file = openSync(draft, 'wx', 0o600)
  try {
    writeSync(file, `${randomBytes(secretBytes).toString('base64url')}\n`)
    fsyncSync(file)
    linkSync(draft, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    closeSync(file)
    unlinkSync(draft)
  }
}

function read(path: string): string {
  const mode = statSync(path).mode & 0o777
  // Windows has no such modes: it reports every file as readable by all.
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    throw new SecretError(
      `The secret file ${path} can be read by others (mode ${mode.toString(8)}). Whoever read it can pose as any user: delete it to have a new one made, or run "chmod 600 ${path}" if nobody did.`,
    )
  }
  const secret = readFileSync(path, 'utf8').trim()
  if (Buffer.byteLength(secret) < secretBytesMin) {
    throw new SecretError(`The secret file ${path} holds fewer than ${secretBytesMin} bytes. Delete it to have a new one made.`)
  }
  return secret
}
