/** A broker that load can be put on, and how the tool starts one as a child process of its own. */
import type { ChildProcess } from 'node:child_process'
import { loopback } from '../../audit/loopback.js'
import type { Dialect } from '../participant.js'
import type { Endpoint, Transport } from '../wire.js'

/** What a broker's processes are there for. */
export type Part = 'nodes' | 'redis' | 'store'

export interface Broker {
  /** Its nodes; clients are spread over them. */
  endpoints: readonly Endpoint[]
  dialect: Dialect
  /** Secret for tokens; empty where nobody asks for one. */
  secret: string
  /** The processes that do the broker's work, or one part of it; empty when they are not known, as with a broker that was there before. */
  pids(part?: Part): readonly number[]
  /** The end of what the broker has printed, for the person who must find out why it failed. */
  printed(): string
  /** Ends the broker and starts it again where it was, with the data that it kept. Absent where that cannot be done. */
  restart?(): Promise<void>
  /** Kills one node, which does not come back. Absent where there is one only, or it is somebody else's. */
  killNode?(node: number): Promise<void>
  /** Ends the broker if the tool started it, and removes what it left. Safe to call twice. */
  stop(): Promise<void>
}

export const peerNames = ['aedes', 'aedes-redis', 'mosquitto', 'sink'] as const
export type PeerName = (typeof peerNames)[number]

export const webSocketPath = '/mqtt'

export function localEndpoint(transport: Transport, port: number, ca: string | undefined): Endpoint {
  const endpoint: Endpoint = { transport, host: loopback, port, path: webSocketPath }
  return ca === undefined ? endpoint : { ...endpoint, ca }
}

const startMs = 30_000
const stopMs = 10_000
const outputCharsMax = 4_000

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
export async function endProcess(child: ChildProcess, how: 'sigterm' | 'sigkill' | 'exits-by-itself' = 'sigterm'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (how !== 'exits-by-itself') child.kill(how === 'sigkill' ? 'SIGKILL' : 'SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
  await ended
  clearTimeout(timer)
}

/** What a broker that the tool starts as a child does on `restart` and `stop`. */
export interface Child {
  process: ChildProcess
  printed: () => string
}

export interface OwnBroker {
  endpoints: readonly Endpoint[]
  dialect: Dialect
  secret: string
  /** Starts a node, counted from 0, and resolves when it is ready. */
  start(node: number): Promise<Child>
  /** Processes beside the nodes that work for the broker. */
  services?: Partial<Record<Exclude<Part, 'nodes'>, { readonly pid: number }>>
  cleanUp(): Promise<void>
}

/** A broker whose nodes run as children of the tool. */
export async function ownBroker({ endpoints, dialect, secret, start, services = {}, cleanUp }: OwnBroker): Promise<Broker> {
  let nodes: Child[] = []
  const end = async (): Promise<void> => {
    await Promise.all(nodes.map(({ process }) => endProcess(process)))
    nodes = []
  }
  const startAll = async (): Promise<void> => {
    for (const [node] of endpoints.entries()) nodes.push(await start(node))
  }
  const stop = async (): Promise<void> => {
    await end()
    await cleanUp()
  }
  try {
    await startAll()
  } catch (error) {
    await stop()
    throw error
  }
  const pidsOf = (part: Part): number[] => {
    const own = part === 'nodes' ? nodes.map(({ process }) => process.pid ?? 0) : [services[part]?.pid ?? 0]
    return own.filter((pid) => pid !== 0)
  }
  const broker: Broker = {
    endpoints,
    dialect,
    secret,
    pids: (part) => (part === undefined ? [...pidsOf('nodes'), ...pidsOf('redis'), ...pidsOf('store')] : pidsOf(part)),
    printed: () => nodes.map(({ printed }) => printed()).join(''),
    async restart() {
      await end()
      await startAll()
    },
    stop,
  }
  if (endpoints.length === 1) return broker
  return { ...broker, killNode: (node) => endProcess((nodes[node] as Child).process, 'sigkill') }
}
