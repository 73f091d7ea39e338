/** The broker under test: a Parley that the tool starts with an empty data directory, or one that runs already. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Broker, collectOutput, endProcess, freePort, whenReady } from './broker.js'

const defaultMqttPort = 1883

/** `nodeArgs` are for a profiler or a heap limit; `settings` are further environment variables of the server. */
export async function startParley(nodeArgs: string[], settings: Record<string, string>): Promise<Broker> {
  const [port, httpPort] = [await freePort(), await freePort()]
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const secret = randomBytes(32).toString('hex')
  const env = {
    ...process.env,
    PARLEY_HOST: '127.0.0.1',
    PARLEY_MQTT_PORT: String(port),
    PARLEY_HTTP_PORT: String(httpPort),
    PARLEY_DATA_DIR: folder,
    PARLEY_JWT_SECRET: secret,
    PARLEY_RATE_LIMIT: 'off',
    PARLEY_LOG_LEVEL: 'warn',
    ...settings,
  }
  const cli = fileURLToPath(new URL('../../broker/cli.js', import.meta.url))
  const child = spawn(process.execPath, [...nodeArgs, cli, 'start'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const printed = collectOutput(child)
  const stop = async (): Promise<void> => {
    await endProcess(child)
    await rm(folder, { recursive: true, force: true })
  }
  const isReady = async (): Promise<boolean> => {
    const response = await fetch(`http://127.0.0.1:${httpPort}/readyz`).catch(() => undefined)
    await response?.arrayBuffer()
    return response?.status === 200
  }
  try {
    await whenReady(child, printed, 'parley', isReady)
  } catch (error) {
    await stop()
    throw error
  }
  return { host: '127.0.0.1', port, dialect: 'parley', secret, pid: child.pid, printed, stop }
}

/** A server that runs already: nothing is started or ended. With `pid` its CPU time and memory are read too. */
export function runningParley(url: string, secret: string, pid: number | undefined): Broker {
  const { protocol, hostname, port } = new URL(url)
  if (protocol !== 'mqtt:') throw new Error(`--url is ${url}; it must look like mqtt://host:port`)
  return {
    host: hostname,
    port: port === '' ? defaultMqttPort : Number(port),
    dialect: 'parley',
    secret,
    pid,
    printed: () => '',
    stop: async () => undefined,
  }
}
