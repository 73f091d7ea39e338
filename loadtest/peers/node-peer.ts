/**
 * Starts the yardsticks that are Node modules of this folder. They get their ports, and the folder of a certificate when they shall speak
 * TLS, as arguments and say over IPC when they listen.
 */
import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isSecure, isWebSocket, type Transport } from '../wire.js'
import { type Broker, type Child, collectOutput, endProcess, freePort, localEndpoint, ownBroker, whenReady } from './broker.js'
import { makeCertificate, writeCertificate } from './certificate.js'
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
  if (isWebSocket(transport) && name === 'sink') throw new Error('the sink speaks no WebSocket; take --transport tcp or tls')
  const [tcpPort, wsPort] = [await freePort(), await freePort()]
  const redis = name === 'aedes-redis' ? await startRedis() : undefined
  const made = isSecure(transport) ? makeCertificate() : undefined
  const folder = made === undefined ? undefined : await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  if (made !== undefined && folder !== undefined) await writeCertificate(folder, made)
  const endpoint = localEndpoint(transport, isWebSocket(transport) ? wsPort : tcpPort, made?.cert)
  return ownBroker({
    endpoint,
    dialect: 'plain',
    secret: '',
    otherPids: redis === undefined ? [] : [redis.pid],
    start: () => startChild(name, [...[tcpPort, wsPort, redis?.port ?? 0].map(String), folder ?? ''], nodeArgs),
    async cleanUp() {
      await redis?.stop()
      if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    },
  })
}
