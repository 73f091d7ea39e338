/** The broker under test: a Parley that the tool starts with an empty data directory, or one that runs already. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { get as getHttp } from 'node:http'
import { get as getHttps } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Endpoint, isSecure, isWebSocket, type Transport } from '../wire.js'
import {
  type Broker,
  type Child,
  collectOutput,
  endProcess,
  freePort,
  localEndpoint,
  loopback,
  ownBroker,
  webSocketPath,
  whenReady,
} from './broker.js'
import { makeCertificate, writeCertificate } from './certificate.js'

/** The flags that `npm start` and the `parley` command give to node. */
const asByNpmStart = ['--max-semi-space-size=64']

/** `nodeArgs` are for a profiler or a heap limit; `settings` are further environment variables of the server. */
export async function startParley(nodeArgs: string[], settings: Record<string, string>, transport: Transport): Promise<Broker> {
  const [port, mqttsPort, httpPort] = [await freePort(), await freePort(), await freePort()]
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const secret = randomBytes(32).toString('hex')
  const made = isSecure(transport) ? makeCertificate() : undefined
  const files = made === undefined ? undefined : await writeCertificate(folder, made)
  const env = {
    ...process.env,
    PARLEY_HOST: loopback,
    PARLEY_MQTT_PORT: String(port),
    PARLEY_MQTTS_PORT: String(mqttsPort),
    PARLEY_HTTP_PORT: String(httpPort),
    PARLEY_TLS_CERT: files?.certFile ?? '',
    PARLEY_TLS_KEY: files?.keyFile ?? '',
    PARLEY_DATA_DIR: join(folder, 'data'),
    PARLEY_JWT_SECRET: secret,
    PARLEY_RATE_LIMIT: 'off',
    PARLEY_LOG_LEVEL: 'warn',
    ...settings,
  }
  const cli = fileURLToPath(new URL('../../broker/cli.js', import.meta.url))
  const isReady = (): Promise<boolean> => isAnswering(httpPort, made?.cert)
  const start = async (): Promise<Child> => {
    const child = spawn(process.execPath, [...asByNpmStart, ...nodeArgs, cli, 'start'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const printed = collectOutput(child)
    try {
      await whenReady(child, printed, 'parley', isReady)
    } catch (error) {
      await endProcess(child)
      throw error
    }
    return { process: child, printed }
  }
  const cleanUp = (): Promise<void> => rm(folder, { recursive: true, force: true })
  const usedPort = isWebSocket(transport) ? httpPort : isSecure(transport) ? mqttsPort : port
  const endpoint = localEndpoint(transport, usedPort, made?.cert)
  return ownBroker({ endpoint, dialect: 'parley', secret, start, cleanUp })
}

/** Whether the server's /readyz says so. `ca`: over HTTPS. */
function isAnswering(port: number, ca: string | undefined): Promise<boolean> {
  const where = { host: loopback, port, path: '/readyz' }
  return new Promise((resolve) => {
    const asked = ca === undefined ? getHttp(where) : getHttps({ ...where, ca })
    asked.on('error', () => resolve(false))
    asked.on('response', (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
  })
}

const schemes: Record<string, { transport: Transport; port: number }> = {
  'mqtt:': { transport: 'tcp', port: 1883 },
  'mqtts:': { transport: 'tls', port: 8883 },
  'ws:': { transport: 'ws', port: 80 },
  'wss:': { transport: 'wss', port: 443 },
}

export interface Trust {
  caFile?: string
  insecure: boolean
}

/** Throws when the URL does not say how and where. */
export function parseUrl(url: string, trust: Trust): Endpoint {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  const scheme = schemes[parsed?.protocol ?? '']
  if (parsed === undefined || scheme === undefined || parsed.hostname === '') {
    throw new Error(`--url is ${url}; it must look like mqtt://host:port, mqtts://host:port, or ws:// or wss://host:port${webSocketPath}`)
  }
  const { hostname, port, pathname } = parsed
  const path = pathname === '' || pathname === '/' ? webSocketPath : pathname
  const endpoint: Endpoint = { transport: scheme.transport, host: hostname, port: port === '' ? scheme.port : Number(port), path }
  if (trust.insecure) endpoint.insecure = true
  if (trust.caFile !== undefined) endpoint.ca = readFileSync(trust.caFile, 'utf8')
  return endpoint
}

/** A server that runs already: nothing is started or ended. With `pid` its CPU time and memory are read too. */
export function runningParley(endpoint: Endpoint, secret: string, pid: number | undefined): Broker {
  return {
    endpoint,
    dialect: 'parley',
    secret,
    pids: () => (pid === undefined ? [] : [pid]),
    printed: () => '',
    stop: async () => undefined,
  }
}
