/**
 * One server as a child process: started with given settings on free ports, and from then on killed, stopped and frozen. It
 * learns its ports from the line `listening` of the server's log.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { OperatorError } from '../broker/operator-error.js'
import type { AuditNode, DeploymentEvents, NodeExit } from './deployment.js'

const startMsMax = 30_000
const stopMsMax = 60_000
const lastLinesMax = 30

/** SIGUSR2 makes the process take over the shift of its wall clock that stands in a file. */
const clockShim = `import {readFileSync} from 'node:fs'
let shift = Number(readFileSync(process.env.PARLEY_TEST_CLOCK_FILE, 'utf8'))
const now = Date.now
const Real = Date
Date.now = () => now() + shift
globalThis.Date = new Proxy(Real, { construct: (target, args) => new target(...(args.length === 0 ? [now() + shift] : args)) })
process.on('SIGUSR2', () => { shift = Number(readFileSync(process.env.PARLEY_TEST_CLOCK_FILE, 'utf8')) })`

export interface ServerProcessOptions {
  name: string
  command: readonly string[]
  env: Record<string, string>
  /** Where the shift of the clock is written; undefined: the clock cannot be moved. */
  clockFile: string | undefined
  writeClock(shiftMs: number): void
  events: DeploymentEvents
}

interface Line {
  level?: string
  msg?: string
  mqttPort?: number
  httpPort?: number
}

const grave = new Set(['error', 'fatal'])

export class ServerProcess implements AuditNode {
  mqttPort = 0
  httpPort = 0
  readonly #options: ServerProcessOptions
  #child: ChildProcess | undefined
  #ended: Promise<NodeExit> = Promise.resolve({ isOrdered: true, why: 'never started' })
  #isEnding = false
  #lastLines: string[] = []

  constructor(options: ServerProcessOptions) {
    this.#options = options
  }

  get name(): string {
    return this.#options.name
  }

  get isUp(): boolean {
    return this.mqttPort !== 0 && !this.#isEnding
  }

  async start(): Promise<void> {
    const { command, env, clockFile } = this.#options
    const [program, ...args] = command
    const shim = clockFile === undefined ? {} : { NODE_OPTIONS: nodeOptions(), PARLEY_TEST_CLOCK_FILE: clockFile }
    const child = spawn(program as string, args, { env: { ...process.env, ...env, ...shim }, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    this.#isEnding = false
    this.#lastLines = []
    // Before whatever else ends with the audit: the server must not outlive it.
    const kill = (): void => void child.kill('SIGKILL')
    process.prependOnceListener('exit', kill)
    child.once('close', () => process.removeListener('exit', kill))
    this.#ended = once(child, 'close').then(([code, signal]) => this.#exited(code, signal))
    createInterface({ input: child.stderr }).on('line', (line) => this.#line(line))
    const deadline = performance.now() + startMsMax
    while (this.mqttPort === 0) {
      const isDead = child.exitCode !== null || child.signalCode !== null
      if (isDead || performance.now() > deadline)
        throw new OperatorError(
          `${this.name} ${isDead ? 'ended at its start' : 'does not listen'}; it printed:\n${this.#lastLines.join('\n')}`,
        )
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  #line(text: string): void {
    this.#lastLines.push(text)
    if (this.#lastLines.length > lastLinesMax) this.#lastLines.shift()
    const line = parseLine(text)
    if (line?.msg === 'listening') Object.assign(this, { mqttPort: line.mqttPort ?? 0, httpPort: line.httpPort ?? 0 })
    if (line === undefined) this.#options.events.logged(this, 'none', text)
    else if (line.level !== undefined && grave.has(line.level)) this.#options.events.logged(this, line.level, text)
  }

  #exited(code: number | null, signal: NodeJS.Signals | null): NodeExit {
    this.mqttPort = 0
    this.httpPort = 0
    const exit = { isOrdered: this.#isEnding, why: signal ?? `exit code ${code}` }
    this.#options.events.exited(this, exit)
    return exit
  }

  async kill(): Promise<void> {
    if (this.#child === undefined) return
    this.#isEnding = true
    this.#child.kill('SIGKILL')
    await this.#ended
  }

  async stop(): Promise<NodeExit> {
    this.#isEnding = true
    this.#child?.kill('SIGTERM')
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), stopMsMax)
    const exit = await this.#ended
    clearTimeout(timer)
    return exit
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child?.kill('SIGCONT')
  }

  setClock(shiftMs: number): void {
    this.#options.writeClock(shiftMs)
    this.#child?.kill('SIGUSR2')
  }

  rssBytes(): number {
    return this.#ofProcess((proc) => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`${proc}/status`, 'utf8'))?.[1] ?? 0) * 1_024)
  }

  descriptors(): number {
    return this.#ofProcess((proc) => readdirSync(`${proc}/fd`).length)
  }

  #ofProcess(read: (proc: string) => number): number {
    const { pid } = this.#child ?? {}
    if (pid === undefined || process.platform !== 'linux' || !this.isUp) return 0
    try {
      return read(`/proc/${pid}`)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH') return 0
      throw error
    }
  }

  /** Empty while it does not answer. */
  async #metrics(): Promise<string> {
    try {
      return await (await fetch(`http://127.0.0.1:${this.httpPort}/metrics`)).text()
    } catch (error) {
      if (error instanceof TypeError) return ''
      throw error
    }
  }

  async metric(name: string): Promise<number | undefined> {
    const text = await this.#metrics()
    const lines = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    if (lines.length === 0) return undefined
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }
}

const nodeOptions = (): string => `${process.env.NODE_OPTIONS ?? ''} --import=data:text/javascript,${encodeURIComponent(clockShim)}`.trim()

function parseLine(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
