/**
 * A Parley server in a process of its own, for tests that kill, stop and starve it: `node build/broker/cli.js start` on free
 * ports with a data directory of the test. It keeps what the server logs, calls its methods over HTTP and reads its metrics.
 * It is killed when its test ends, whatever happens.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { mintToken } from '../../broker/token.js'
import { eventually } from './eventually.js'

const cli = fileURLToPath(new URL('../../broker/cli.js', import.meta.url))
const secret = 'a secret of the fault tests, long enough for HS256'
const startMsMax = 60_000
const logLinesMax = 5_000

export interface LogLine {
  level: string
  msg: string
  [field: string]: unknown
}

/** What a test may hang its teardown on. */
export interface Owner {
  teardown(step: () => unknown): void
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface RpcAnswer {
  status: number
  body: Record<string, unknown>
}

const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PARLEY_')))

const tokens = new Map<string, Promise<string>>()

/** A token that the servers of this file accept. */
export function tokenOf(user: string, expiresInSeconds = 3_600, scope?: 'admin'): Promise<string> {
  const key = `${user} ${expiresInSeconds} ${scope}`
  let token = expiresInSeconds < 3_600 ? undefined : tokens.get(key)
  if (token === undefined) {
    token = mintToken({ secret, user, expiresInSeconds, scope })
    tokens.set(key, token)
  }
  return token
}

export class ServerProcess {
  mqttPort = 0
  httpPort = 0
  /** What it has logged, the latest lines, over all its lives. */
  readonly log: LogLine[] = []
  stdout = ''
  /** What it wrote to stderr that is not a line of the log. */
  stderr = ''
  readonly dir: string
  readonly #env: Record<string, string>
  #child: ChildProcess | undefined
  #exited: Promise<Exit> = Promise.resolve({ code: null, signal: null })

  constructor(owner: Owner, dir: string, env: Record<string, string> = {}) {
    this.dir = dir
    this.#env = env
    const kill = () => this.#child?.kill('SIGKILL')
    process.once('exit', kill)
    owner.teardown(async () => {
      await this.kill()
      process.removeListener('exit', kill)
    })
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get isUp(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves with how it ended. */
  get exited(): Promise<Exit> {
    return this.#exited
  }

  /** Starts the process and does not wait for it. */
  spawn(): void {
    if (this.isUp) throw new Error(`it runs already, as process ${this.pid}`)
    this.mqttPort = 0
    const child = spawn(process.execPath, [cli, 'start'], {
      env: {
        ...inherited,
        PARLEY_MQTT_PORT: '0',
        PARLEY_HTTP_PORT: '0',
        PARLEY_DATA_DIR: this.dir,
        PARLEY_JWT_SECRET: secret,
        PARLEY_RATE_LIMIT: 'off',
        ...this.#env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    this.#exited = once(child, 'close').then(([code, signal]) => ({ code, signal }))
    child.stdout.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString()
    })
    createInterface(child.stderr).on('line', (line) => this.#line(line))
  }

  #line(text: string): void {
    let line: LogLine
    try {
      line = JSON.parse(text) as LogLine
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
      this.stderr += `${text}\n`
      return
    }
    this.log.push(line)
    if (this.log.length > logLinesMax) this.log.shift()
    if (line.msg === 'listening') Object.assign(this, { mqttPort: line.mqttPort, httpPort: line.httpPort })
  }

  /** Starts it and waits until it listens. */
  async start(): Promise<this> {
    this.spawn()
    const listens = eventually(() => this.mqttPort !== 0 || !this.isUp, { timeoutMs: startMsMax, everyMs: 5, what: 'the server listens' })
    await Promise.race([listens, this.#exited])
    if (!this.isUp) throw new Error(`the server exited at start: ${this.stderr}${JSON.stringify(this.log.slice(-3))}`)
    return this
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    if (this.isUp) this.signal('SIGKILL')
    if (this.#child !== undefined) await this.#exited
  }

  /** In good order. */
  async stop(): Promise<Exit> {
    this.signal('SIGTERM')
    return this.#exited
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.httpPort}${path}`)
    return { status: response.status, text: await response.text() }
  }

  async readyStatus(): Promise<number> {
    return (await this.get('/readyz')).status
  }

  /** Sum over the labels of one metric. */
  async metric(name: string): Promise<number> {
    const lines = (await this.get('/metrics')).text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** What the process holds in memory now; also when it is too busy to say so itself. */
  rssBytes(): number {
    const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]
    return Number(kilobytes) * 1_024
  }

  async call(user: string, method: string, params: object): Promise<RpcAnswer> {
    const response = await fetch(`http://127.0.0.1:${this.httpPort}/v1/rpc/${method}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${await tokenOf(user)}`, 'content-type': 'application/json' },
      body: JSON.stringify(params),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  /** As `call`, but throws unless the answer is a result. */
  async rpc(user: string, method: string, params: object): Promise<Record<string, unknown>> {
    const { status, body } = await this.call(user, method, params)
    if (status !== 200) throw new Error(`${method} of ${user} was answered with ${status}: ${JSON.stringify(body)}`)
    return body
  }

  /** Everything that the user can read of a conversation, by history. */
  async history(user: string, conv: string): Promise<{ seq: number; id: string; body: unknown; from: string; ts: number }[]> {
    const all: { seq: number; id: string; body: unknown; from: string; ts: number }[] = []
    for (let after = 0; ; after = all.at(-1)?.seq ?? 0) {
      const { messages } = (await this.rpc(user, 'history', { conv, after, limit: 200 })) as { messages: typeof all }
      if (messages.length === 0) return all
      all.push(...messages)
    }
  }
}

/** A server on a fresh data directory that listens. */
export function startServer(owner: Owner & { testdir(): string }, env: Record<string, string> = {}): Promise<ServerProcess> {
  return new ServerProcess(owner, `${owner.testdir()}/data`, env).start()
}

/** The peak of a process' memory while `work` runs. */
export async function peakRssBytes(server: ServerProcess, work: () => Promise<unknown>): Promise<number> {
  let peak = server.rssBytes()
  const timer = setInterval(() => {
    peak = Math.max(peak, server.rssBytes())
  }, 20)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return peak
}
