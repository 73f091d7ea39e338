/**
 * A Redis: PARLEY_TEST_REDIS_URL, else `redis-server` of PATH. `startRedis` is always a process of the test's own, on a port that it
 * keeps, so that it can be killed, stopped and started again; nothing of it is on disk, so a restart has forgotten everything.
 */
import { type ChildProcess, execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { eventually } from './eventually.js'
import { newDir } from './new-dir.js'
import { findProgram, freePort, skipWithout, spawnFor } from './own-service.js'

export interface TestRedis {
  readonly url: string
  readonly port: number
  /** As `redis-cli` prints it. */
  command(...args: string[]): Promise<string>
  kill(): Promise<void>
  /** Starts it again, on the same port. */
  start(): Promise<void>
  /** Freezes it: connections stay open and nothing answers. */
  freeze(): void
  thaw(): void
}

/** The URL of a Redis that others may use too; undefined after saying why there is none. */
export async function redisUrl(t: Test): Promise<string | undefined> {
  return process.env.PARLEY_TEST_REDIS_URL ?? (await startRedis(t))?.url
}

/** Of keys and channels that nobody else has. */
export const newPrefix = (): string => `parley-test-${randomUUID()}:`

/** `args` go to redis-server. */
export async function startRedis(t: Test, ...args: string[]): Promise<TestRedis | undefined> {
  const program = findProgram('redis-server')
  if (program === undefined) return skipWithout(t, 'redis', 'needs redis-server in PATH')
  const [dir, port] = [await newDir(t), await freePort()]
  const isPlain = !args.includes('--tls-port')
  const all = [
    '--bind',
    '127.0.0.1',
    '--dir',
    dir,
    '--save',
    '',
    '--appendonly',
    'no',
    ...(isPlain ? ['--port', String(port)] : []),
    ...args,
  ]
  let child: ChildProcess
  const redis: TestRedis = {
    url: `redis://127.0.0.1:${port}`,
    port,
    async command(...words) {
      return (await promisify(execFile)('redis-cli', ['-p', String(port), ...words])).stdout.trim()
    },
    async kill() {
      const exited = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await exited
    },
    async start() {
      child = spawnFor(t, program, all)
      await eventually(() => accepts(isPlain ? port : Number(args[args.indexOf('--tls-port') + 1])), { what: 'redis-server listens' })
    },
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
  }
  await redis.start()
  return redis
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
