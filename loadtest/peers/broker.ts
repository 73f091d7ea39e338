/** A broker that load can be put on, and how the tool starts one as a child process of its own. */
import { type ChildProcess, fork } from 'node:child_process'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Dialect } from '../participant.js'

export interface Broker {
  host: string
  port: number
  dialect: Dialect
  /** Secret for tokens; empty where nobody asks for one. */
  secret: string
  /** Undefined when the process is not known, as with a broker that was there before. */
  pid: number | undefined
  /** The end of what the broker has printed, for the person who must find out why it failed. */
  printed(): string
  /** Ends the broker if the tool started it, and removes what it left. Safe to call twice. */
  stop(): Promise<void>
}

export type PeerName = 'aedes' | 'mosquitto' | 'sink'
export const peerNames: readonly PeerName[] = ['aedes', 'mosquitto', 'sink']

const startMs = 30_000
const stopMs = 10_000
const outputCharsMax = 4_000

/** A TCP port of the loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('the system gave no free TCP port')
  return address.port
}

/** Keeps the end of what a child prints. */
export function collectOutput(child: ChildProcess): () => string {
  let output = ''
  const collect = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-outputCharsMax)
  }
  child.stdout?.on('data', collect)
  child.stderr?.on('data', collect)
  child.on('error', (error) => {
    output += error.message
  })
  return () => output
}

/** Resolves once `isReady` does; fails, with what the process printed last, when it ends or takes too long. */
export async function whenReady(child: ChildProcess, printed: () => string, name: string, isReady: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + startMs
  while (!(await isReady())) {
    const hasEnded = child.exitCode !== null || child.signalCode !== null || child.pid === undefined
    if (hasEnded) throw new Error(`${name} did not start; it printed:\n${printed()}`)
    if (performance.now() > deadline) throw new Error(`${name} was not ready within ${startMs / 1000} s; it printed:\n${printed()}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** Sends SIGTERM unless the child was told in another way, and SIGKILL when it has not ended in time. */
export async function endProcess(child: ChildProcess, how: 'sigterm' | 'exits-by-itself' = 'sigterm'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (how === 'sigterm') child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
  await ended
  clearTimeout(timer)
}

/** Starts a yardstick that is a Node module of this folder; it sends its port over IPC once it listens. */
export async function startNodePeer(name: 'aedes' | 'sink', nodeArgs: string[]): Promise<Broker> {
  const child = fork(fileURLToPath(new URL(`./${name}.js`, import.meta.url)), [], { silent: true, execArgv: nodeArgs })
  const printed = collectOutput(child)
  let port: number | undefined
  child.once('message', (message) => {
    port = Number(message)
  })
  try {
    await whenReady(child, printed, name, async () => port !== undefined)
  } catch (error) {
    await endProcess(child)
    throw error
  }
  return { host: '127.0.0.1', port: port ?? 0, dialect: 'plain', secret: '', pid: child.pid, printed, stop: () => endProcess(child) }
}
