/**
 * A Redis and a MongoDB-compatible store of the audit's own: the programs of the PATH, on a port and in a folder that they keep
 * over every start, so that they can be killed and come back with what they had on disk. They end with the audit at the latest.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { basename, delimiter, join } from 'node:path'
import { OperatorError } from '../broker/operator-error.js'
import { canConnect, freePort } from './loopback.js'

const startMsMax = 30_000
const stopMsMax = 20_000
const answerMsMax = 2_000
const retryMs = 25
const outputCharsMax = 4_000

export interface ServiceOptions {
  name: string
  program: string
  args: readonly string[]
  port: number
  /** One command at a time is all that may be asked of it. */
  needsTurns?: boolean
}

export class Service {
  readonly port: number
  readonly #options: ServiceOptions
  #child: ChildProcess | undefined
  #output = ''

  constructor(options: ServiceOptions) {
    this.#options = options
    this.port = options.port
  }

  get name(): string {
    return this.#options.name
  }

  get needsTurns(): boolean {
    return this.#options.needsTurns ?? false
  }

  /** 0 while it does not run. */
  get pid(): number {
    return this.#isRunning ? (this.#child?.pid ?? 0) : 0
  }

  get #isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves when it listens. Throws with what it printed when it does not. */
  async start(): Promise<void> {
    if (this.#isRunning) return
    const { program, args } = this.#options
    this.#output = ''
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    const kill = (): void => void child.kill('SIGKILL')
    process.prependOnceListener('exit', kill)
    child.once('close', () => process.removeListener('exit', kill))
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        this.#output = (this.#output + chunk.toString()).slice(-outputCharsMax)
      })
    const deadline = performance.now() + startMsMax
    while (!(await canConnect(this.port))) {
      if (!this.#isRunning || performance.now() > deadline)
        throw new OperatorError(`${this.name} does not start; it printed:\n${this.#output}`)
      await new Promise((resolve) => setTimeout(resolve, retryMs))
    }
  }

  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  stop(): Promise<void> {
    return this.#end('SIGTERM')
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.#isRunning) return
    const ended = once(child, 'close')
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), stopMsMax)
    await ended
    clearTimeout(timer)
  }

  /** One inline command to a Redis; resolves with its answer. */
  async command(words: string): Promise<string> {
    const socket = connect({ port: this.port, host: '127.0.0.1' })
    try {
      await once(socket, 'connect')
      socket.setTimeout(answerMsMax, () => socket.destroy(new Error(`${this.name} did not answer ${words}`)))
      socket.write(`${words}\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      return answer.toString().trim()
    } finally {
      socket.destroy()
    }
  }
}

/** It keeps nothing on disk: what must survive stands in the store. */
export async function createRedis(): Promise<Service> {
  const program = findProgram('redis-server')
  if (program === undefined) throw new OperatorError('a cluster needs redis-server in the PATH')
  const port = await freePort()
  const args = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no']
  return new Service({ name: 'redis', program, args, port })
}

const findStore = (): string | undefined => findProgram('mongod', 'ferretdb')

/** It is FerretDB 1, which reads whole collections and keeps up with some ten users. */
export const isSlowStore = (): boolean => basename(findStore() ?? '') === 'ferretdb'

/** `dir` need not be there. */
export async function createStore(dir: string): Promise<Service> {
  const program = findStore()
  if (program === undefined) throw new OperatorError('a cluster needs mongod, or ferretdb in version 1, in the PATH')
  mkdirSync(dir, { recursive: true })
  const port = await freePort()
  const common = { name: 'store', program, port }
  if (basename(program) === 'mongod')
    return new Service({ ...common, args: ['--dbpath', dir, '--port', String(port), '--bind_ip', '127.0.0.1'] })
  const args = [
    // What a process has written survives its kill -9, synchronised or not; FerretDB takes four times as much without.
    ...['--handler=sqlite', `--sqlite-url=file:${dir}/?_pragma=synchronous(off)`, `--listen-addr=127.0.0.1:${port}`],
    ...['--debug-addr=-', '--telemetry=disable', `--state-dir=${dir}`, '--log-level=error'],
  ]
  return new Service({ ...common, args, needsTurns: true })
}

function findProgram(...names: string[]): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false
  }
}
