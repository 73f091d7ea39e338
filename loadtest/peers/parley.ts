/** The broker under test: a Parley that the tool starts with an empty data directory, or one that runs already. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Endpoint, Transport } from '../wire.js'
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

/** The flags that `npm start` and the `parley` command give to node. */
const asByNpmStart = ['--max-semi-space-size=64']

/** `nodeArgs` are for a profiler or a heap limit; `settings` are further environment variables of the server. */
export async function startParley(nodeArgs: string[], settings: Record<string, string>, transport: Transport): Promise<Broker> {
  const [port, httpPort] = [await freePort(), await freePort()]
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const secret = randomBytes(32).toString('hex')
  const env = {
    ...process.env,
    PARLEY_HOST: loopback,
    PARLEY_MQTT_PORT: String(port),
    PARLEY_HTTP_PORT: String(httpPort),
    PARLEY_DATA_DIR: folder,
    PARLEY_JWT_SECRET: secret,
    PARLEY_RATE_LIMIT: 'off',
    PARLEY_LOG_LEVEL: 'warn',
    ...settings,
  }
  const cli = fileURLToPath(new URL('../../broker/cli.js', import.meta.url))
  const isReady = async (): Promise<boolean> => {
    const response = await fetch(`http://${loopback}:${httpPort}/readyz`).catch(() => undefined)
    await response?.arrayBuffer()
    return response?.status === 200
  }
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
  const endpoint = localEndpoint(transport, transport === 'ws' ? httpPort : port)
  return ownBroker({ endpoint, dialect: 'parley', secret, start, cleanUp })
}

const schemes: Record<string, { transport: Transport; port: number }> = {
  'mqtt:': { transport: 'tcp', port: 1883 },
  'mqtts:': { transport: 'tls', port: 8883 },
  'ws:': { transport: 'ws', port: 80 },
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
    throw new Error(`--url is ${url}; it must look like mqtt://host:port, mqtts://host:port or ws://host:port${webSocketPath}`)
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
