/**
 * The certificate in use, which changes while the server runs: when its files have changed, looked at each minute, or on `reload`.
 * All servers that it was given to get the new one for connections from then on. A new one that cannot be used is logged
 * and the old one stays.
 */
import { X509Certificate } from 'node:crypto'
import { statSync } from 'node:fs'
import type { Server } from 'node:tls'
import type { Logger } from './logger.js'
import { readTlsOptions, TlsError, type TlsFiles, type TlsOptions } from './tls-options.js'

const checkEveryMs = 60_000

export class Certificate {
  #options: TlsOptions
  #stamp: string
  readonly #servers: Server[] = []
  readonly #timer: NodeJS.Timeout

  /** Throws TlsError. */
  constructor(
    readonly files: TlsFiles,
    readonly logger: Logger,
    checkMs: number = checkEveryMs,
  ) {
    this.#stamp = stampOf(files)
    this.#options = readTlsOptions(files)
    this.#announce()
    this.#timer = setInterval(() => this.#check(), checkMs).unref()
  }

  /** For a server that is made now; give it to `serve` as well. */
  get options(): TlsOptions {
    return this.#options
  }

  /** When the one in use expires. */
  get expiresMs(): number {
    return Date.parse(new X509Certificate(this.#options.cert).validTo)
  }

  /** The server gets each certificate to come. */
  serve<S extends Server>(server: S): S {
    this.#servers.push(server)
    return server
  }

  /** Reads the files again, changed or not. */
  reload(): void {
    // Before they are read: a change in between is seen at the next check.
    this.#stamp = stampOf(this.files)
    try {
      this.#options = readTlsOptions(this.files)
    } catch (error) {
      if (!(error instanceof TlsError)) throw error
      return this.logger.error({ faults: error.faults }, 'the new TLS certificate cannot be used; the old one stays')
    }
    for (const server of this.#servers) server.setSecureContext(this.#options)
    this.#announce()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    if (stampOf(this.files) !== this.#stamp) this.reload()
  }

  #announce(): void {
    const { subject, subjectAltName, validTo } = new X509Certificate(this.#options.cert)
    const facts = { subject, names: subjectAltName, expires: new Date(validTo).toISOString() }
    if (Date.parse(validTo) < Date.now()) this.logger.warn(facts, 'the TLS certificate has expired: clients will refuse it')
    else this.logger.info(facts, 'TLS certificate in use')
  }
}

/** Differs when a file was written or replaced, also by way of a link. */
function stampOf({ cert, key }: TlsFiles): string {
  const stamps = [cert, key].map((path) => {
    try {
      const { dev, ino, ctimeMs, size } = statSync(path)
      return `${dev} ${ino} ${ctimeMs} ${size}`
    } catch (error) {
      return (error as NodeJS.ErrnoException).code
    }
  })
  return stamps.join(', ')
}
