/** The broker under test: a Parley that the tool starts with empty stores, one node or a cluster, or one that runs already. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { get as getHttp } from 'node:http'
import { get as getHttps } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort, loopback } from '../../audit/loopback.js'
import { createRedis, createStore, type Service } from '../../audit/service.js'
import { type Endpoint, isSecure, isWebSocket, type Transport } from '../wire.js'
import { type Broker, type Child, collectOutput, endProcess, localEndpoint, ownBroker, webSocketPath, whenReady } from './broker.js'
import { makeCertificate, writeCertificate } from './certificate.js'

/** The flags that `npm start` and the `parley` command give to node. */
const asByNpmStart = ['--max-semi-space-size=64']

export interface ParleyOptions {
  /** For a profiler or a heap limit. */
  nodeArgs: string[]
  /** Further environment variables of the server. */
  settings: Record<string, string>
  transport: Transport
  /** A cluster of so many; absent: one node on the embedded store. */
  nodes?: number
  /** Where the store of a cluster keeps what it has; a temporary folder if absent. */
  storeDir?: string
}

interface Ports {
  mqtt: number
  mqtts: number
  http: number
}

export async function startParley({ nodeArgs, settings, transport, nodes, storeDir }: ParleyOptions): Promise<Broker> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const secret = randomBytes(32).toString('hex')
  const made = isSecure(transport) ? makeCertificate() : undefined
  const files = made === undefined ? undefined : await writeCertificate(folder, made)
  const backing = nodes === undefined ? undefined : await startBacking(storeDir ?? folder)
  const ports: Ports[] = []
  for (let node = 0; node < (nodes ?? 1); node++) ports.push({ mqtt: await freePort(), mqtts: await freePort(), http: await freePort() })
  const envOf = (node: number, { mqtt, mqtts, http }: Ports): NodeJS.ProcessEnv => ({
    ...process.env,
    PARLEY_HOST: loopback,
    PARLEY_MQTT_PORT: String(mqtt),
    PARLEY_MQTTS_PORT: String(mqtts),
    PARLEY_HTTP_PORT: String(http),
    PARLEY_TLS_CERT: files?.certFile ?? '',
    PARLEY_TLS_KEY: files?.keyFile ?? '',
    PARLEY_DATA_DIR: join(folder, `data-${node + 1}`),
    PARLEY_JWT_SECRET: secret,
    PARLEY_RATE_LIMIT: 'off',
    PARLEY_LOG_LEVEL: 'warn',
    PARLEY_NODE_ID: backing === undefined ? '' : `node-${node + 1}`,
    PARLEY_REDIS_URL: backing?.redisUrl ?? '',
    PARLEY_MONGODB_URL: backing?.storeUrl ?? '',
    ...settings,
  })
  const cli = fileURLToPath(new URL('../../broker/cli.js', import.meta.url))
  const start = async (node: number): Promise<Child> => {
    const own = ports[node] as Ports
    const options = { env: envOf(node, own), stdio: ['ignore' as const, 'pipe' as const, 'pipe' as const] }
    const child = spawn(process.execPath, [...asByNpmStart, ...nodeArgs, cli, 'start'], options)
    const printed = collectOutput(child)
    try {
      await whenReady(child, printed, 'parley', () => isAnswering(own.http, made?.cert))
    } catch (error) {
      await endProcess(child)
      throw error
    }
    return { process: child, printed }
  }
  const cleanUp = async (): Promise<void> => {
    await backing?.stop()
    await rm(folder, { recursive: true, force: true })
  }
  const usedPort = ({ mqtt, mqtts, http }: Ports): number => (isWebSocket(transport) ? http : isSecure(transport) ? mqtts : mqtt)
  const endpoints = ports.map((own) => localEndpoint(transport, usedPort(own), made?.cert))
  const services = backing === undefined ? {} : { redis: backing.redis, store: backing.store }
  return ownBroker({ endpoints, dialect: 'parley', secret, services, start, cleanUp })
}

/** The Redis and the store of a cluster, in a folder of their own below `dir`. */
async function startBacking(
  dir: string,
): Promise<{ redis: Service; store: Service; redisUrl: string; storeUrl: string; stop(): Promise<void> }> {
  const storeDir = await mkdtemp(join(dir, 'parley-store-'))
  const [redis, store] = [await createRedis(), await createStore(storeDir)]
  const stop = async (): Promise<void> => {
    await Promise.all([redis.stop(), store.stop()])
    await rm(storeDir, { recursive: true, force: true })
  }
  try {
    await Promise.all([redis.start(), store.start()])
  } catch (error) {
    await stop()
    throw error
  }
  const storeUrl = `mongodb://${loopback}:${store.port}/parley?directConnection=true`
  return { redis, store, redisUrl: `redis://${loopback}:${redis.port}`, storeUrl, stop }
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

/** A server that runs already, with one node or several: nothing is started or ended. With `pids` their CPU time and memory are read too. */
export function runningParley(endpoints: readonly Endpoint[], secret: string, pids: readonly number[]): Broker {
  return {
    endpoints,
    dialect: 'parley',
    secret,
    pids: (part) => (part === undefined || part === 'nodes' ? pids : []),
    printed: () => '',
    stop: async () => undefined,
  }
}
