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
import { type Deployment, type DeploymentEvents, watchedMax } from './deployment.js'
import { scopeOf } from './faults.js'
import { nodeSettings, ownCli } from './node-settings.js'
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

const diskMb = 4_096
const resizeTriesMax = 20
const resizeSlackBlocks = 32
export function createEmbedded({ dir, cli = ownCli, settings = {}, events }: EmbeddedOptions): Deployment {
  const secret = randomBytes(32).toString('hex')
  const dataDir = join(dir, 'data')
  mkdirSync(dataDir, { recursive: true })
  const isOwnDisk = mountDisk(dataDir)
  const clockFile = join(dir, 'clock')
  const writeClock = (shiftMs: number): void => writeFileSync(clockFile, String(shiftMs))
  writeClock(0)
  const node = new ServerProcess({
    name: 'node-1',
    command: [process.execPath, cli, 'start'],
    env: { ...nodeSettings(secret, join(dataDir, 'parley')), ...settings },
    clockFile,
    writeClock,
    events,
  })
  const unmount = (): void => void (isOwnDisk && spawnSync('umount', ['-l', dataDir]))
  process.prependOnceListener('exit', unmount)
  return {
    nodes: [node],
    secret,
    cannot(kind) {
      if (kind === 'disk' && !isOwnDisk) return 'it needs root on Linux, to mount a file system that can be filled'
      return scopeOf(kind) === 'cluster' ? 'it is for a cluster: --nodes 3' : undefined
    },
    fillDisk: () => resize(dataDir, 'full'),
    freeDisk: () => resize(dataDir, 'free'),
    filtersOf: ({ friends }) => ['g/+/typing', ...friends.slice(0, watchedMax).map((friend) => `u/${friend}/presence`)],
    async close() {
      await node.kill()
      process.removeListener('exit', unmount)
      unmount()
      await rm(dir, { recursive: true, force: true })
    },
  }
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
