/**
 * The deployment of one Parley on the embedded store: the PARLEY_… settings of whoever runs the audit, but with a data
 * directory, a secret and ports of its own, so that nothing that exists is touched. With root on Linux the directory is a
 * file system of its own, which can be full.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Deployment, DeploymentEvents } from './deployment.js'
import { ServerProcess } from './server-process.js'

export interface EmbeddedOptions {
  /** An empty directory; what is made in it is removed again. */
  dir: string
  /** The server's cli.js; another one than the own build is for testing the audit itself. */
  cli?: string
  /** Over those of the environment. */
  settings?: Record<string, string>
  events: DeploymentEvents
}

const ownCli = fileURLToPath(new URL('../broker/cli.js', import.meta.url))
const diskMb = 4_096
const resizeTriesMax = 20
const resizeSlackBlocks = 32
/** What the audit must decide itself: where data lies, which tokens count, and that neither a rate nor TLS stands in the way. */
const ownSettings = [
  ...['HOST', 'MQTT_PORT', 'HTTP_PORT', 'DATA_DIR', 'MONGODB_URL', 'REDIS_URL', 'LOG_LEVEL', 'RATE_LIMIT'],
  ...['TLS_CERT', 'TLS_KEY', 'MQTTS_PORT', 'JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWKS_URL', 'JWT_ISSUER', 'JWT_AUDIENCE'],
].map((name) => `PARLEY_${name}`)

export function createEmbedded({ dir, cli = ownCli, settings = {}, events }: EmbeddedOptions): Deployment {
  const secret = randomBytes(32).toString('hex')
  const dataDir = join(dir, 'data')
  mkdirSync(dataDir, { recursive: true })
  const isOwnDisk = mountDisk(dataDir)
  const clockFile = join(dir, 'clock')
  const writeClock = (shiftMs: number): void => writeFileSync(clockFile, String(shiftMs))
  writeClock(0)
  const cleared = Object.fromEntries(ownSettings.map((name) => [name, '']))
  const node = new ServerProcess({
    name: 'node-1',
    command: [process.execPath, cli, 'start'],
    env: {
      ...cleared,
      PARLEY_HOST: '127.0.0.1',
      PARLEY_MQTT_PORT: '0',
      PARLEY_HTTP_PORT: '0',
      PARLEY_DATA_DIR: join(dataDir, 'parley'),
      PARLEY_JWT_SECRET: secret,
      PARLEY_RATE_LIMIT: 'off',
      PARLEY_TOPICS: withFuzzTopics(process.env.PARLEY_TOPICS ?? ''),
      ...settings,
    },
    clockFile,
    writeClock,
    events,
  })
  const unmount = (): void => void (isOwnDisk && spawnSync('umount', ['-l', dataDir]))
  process.prependOnceListener('exit', unmount)
  return {
    nodes: [node],
    secret,
    cannot: (kind) => (kind === 'disk' && !isOwnDisk ? 'it needs root on Linux, to mount a file system that can be filled' : undefined),
    fillDisk: () => resize(dataDir, 'full'),
    freeDisk: () => resize(dataDir, 'free'),
    filtersOf: () => ['g/+/typing'],
    async close() {
      await node.kill()
      process.removeListener('exit', unmount)
      unmount()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** The user's rules, and behind them one that lets the fuzzer reach what is done with application topics. */
function withFuzzTopics(rules: string): string {
  const fuzz = JSON.stringify({ topic: 'fuzz/#', publish: true, subscribe: true })
  const [, own] = /^\s*\[(.*)\]\s*$/s.exec(rules === '' ? '[]' : rules) ?? []
  if (own === undefined) return rules // The server says what is wrong with it.
  return own.trim() === '' ? `[${fuzz}]` : `[${own},${fuzz}]`
}

/** False when this machine does not let us. */
function mountDisk(dir: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${diskMb}m`, 'tmpfs', dir]).status === 0
}

/** Full: the file system is made as small as what is on it, which may grow meanwhile. */
function resize(dir: string, to: 'full' | 'free'): void {
  let complaint = ''
  for (let tries = 0; tries < resizeTriesMax; tries++) {
    const { bsize, blocks, bfree } = statfsSync(dir)
    const size = to === 'free' ? `${diskMb}m` : String((blocks - bfree + tries * resizeSlackBlocks) * bsize)
    const { status, stderr } = spawnSync('mount', ['-o', `remount,size=${size}`, dir])
    if (status === 0) return
    complaint = `${size}: ${stderr.toString()}`
  }
  throw new Error(`the file system of the audit could not be resized to ${complaint}`)
}
