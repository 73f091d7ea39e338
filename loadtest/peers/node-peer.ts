/** Starts the yardsticks that are Node modules of this folder. They get their ports as arguments and say over IPC when they listen. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Transport } from '../wire.js'
import { type Broker, type Child, collectOutput, endProcess, freePort, localEndpoint, ownBroker, whenReady } from './broker.js'
import { startRedis } from './redis.js'

export type NodePeerName = 'aedes' | 'aedes-redis' | 'sink'

async function startChild(module: string, args: string[], nodeArgs: string[]): Promise<Child> {
  const child = fork(fileURLToPath(new URL(`./${module}.js`, import.meta.url)), args, { silent: true, execArgv: nodeArgs })
  const printed = collectOutput(child)
  let isListening = false
  child.once('message', () => {
    isListening = true
  })
  try {
    await whenReady(child, printed, module, async () => isListening)
  } catch (error) {
    await endProcess(child)
    throw error
  }
  return { process: child, printed }
}

export async function startNodePeer(name: NodePeerName, nodeArgs: string[], transport: Transport): Promise<Broker> {
  if (transport === 'ws' && name === 'sink') throw new Error('the sink speaks TCP only; take --transport tcp')
  const [tcpPort, wsPort] = [await freePort(), await freePort()]
  const endpoint = localEndpoint(transport, transport === 'ws' ? wsPort : tcpPort)
  const redis = name === 'aedes-redis' ? await startRedis() : undefined
  return ownBroker({
    endpoint,
    dialect: 'plain',
    secret: '',
    otherPids: redis === undefined ? [] : [redis.pid],
    start: () => startChild(name, [tcpPort, wsPort, redis?.port ?? 0].map(String), nodeArgs),
    cleanUp: async () => redis?.stop(),
  })
}
