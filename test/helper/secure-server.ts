/**
 * A server with a certificate of its own, for tests of TLS: on any free ports, with what it logs kept. Its clients are stock ones:
 * mqtt.js, Node's https, and sockets that send what they are told.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { Test } from 'tap'
import { createServer, mintToken, type Server, type ServerOptions } from '../../broker/index.js'
import { createLogger } from '../../broker/logger.js'
import { type MadeCertificate, makeCertificate, writeCertificate } from '../../loadtest/peers/certificate.js'
import type { LogLine } from './server-process.js'

const secret = 'the-secret-of-the-tests-with-tls!'

export interface SecureAnswer {
  status: number
  text: string
}

export class SecureServer {
  constructor(
    readonly server: Server,
    readonly folder: string,
    readonly log: readonly LogLine[],
    /** The PEM that clients trust: the certificate at start is its own issuer. */
    readonly ca: string,
  ) {}

  get mqttsPort(): number {
    return this.server.mqttsPort ?? 0
  }

  token(user: string): Promise<string> {
    return mintToken({ secret, user, expiresInSeconds: 3_600 })
  }

  /** Puts other files where those in use are. */
  async replace(made: Partial<MadeCertificate>): Promise<void> {
    await writeCertificate(this.folder, { cert: made.cert ?? this.ca, key: made.key ?? '' })
  }

  /** A client of mqtt.js that has its CONNACK. */
  async client(url: string, user: string, clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
    const given: IClientOptions = {
      ca: this.ca,
      username: user,
      password: await this.token(user),
      clientId,
      reconnectPeriod: 0,
      ...options,
    }
    const client = mqtt.connect(url, given)
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve())
      client.once('error', reject)
      client.once('close', () => reject(new Error('closed before CONNACK')))
    })
    return client
  }

  get(path: string): Promise<SecureAnswer> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port: this.server.httpPort, path, ca: this.ca, agent: false })
      asked.on('error', reject)
      asked.on('response', (response) => {
        let text = ''
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString()
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      })
      asked.end()
    })
  }

  async metric(name: string): Promise<number> {
    const line = (await this.get('/metrics')).text.split('\n').find((each) => each.startsWith(`${name} `))
    return Number(line?.slice(name.length + 1))
  }

  /** What it logged at these levels. */
  logged(...levels: string[]): readonly LogLine[] {
    return this.log.filter(({ level }) => levels.includes(level))
  }
}

export async function startSecure(t: Test, options: ServerOptions = {}): Promise<SecureServer> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-tls-'))
  const made = makeCertificate()
  const { certFile, keyFile } = await writeCertificate(folder, made)
  const log: LogLine[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      log.push(JSON.parse(String(chunk)) as LogLine)
      done()
    },
  })
  const server = await createServer({
    mqttPort: 0,
    mqttsPort: 0,
    httpPort: 0,
    dataDir: join(folder, 'data'),
    jwtSecret: secret,
    tlsCert: certFile,
    tlsKey: keyFile,
    rateLimit: undefined,
    logger: createLogger('debug', stream),
    ...options,
  })
  t.teardown(async () => {
    await server.close()
    await rm(folder, { recursive: true, force: true })
  })
  return new SecureServer(server, folder, log, made.cert)
}
