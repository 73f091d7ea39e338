/**
 * Starts the yardsticks that are Node modules of this folder. They get their ports, and the folder of a certificate when they shall speak
 * TLS, as arguments and say over IPC when they listen.
 */
import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../audit/loopback.js'
import { createRedis } from '../../audit/service.js'
import { isSecure, isWebSocket, type Transport } from '../wire.js'
import { type Broker, type Child, collectOutput, endProcess, localEndpoint, ownBroker, whenReady } from './broker.js'
import { makeCertificate, writeCertificate } from './certificate.js'

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

/** `nodes`: so many on one Redis, which only aedes-redis can. */
export async function startNodePeer(name: NodePeerName, nodeArgs: string[], transport: Transport, nodes: number): Promise<Broker> {
  if (isWebSocket(transport) && name === 'sink') throw new Error('the sink speaks no WebSocket; take --transport tcp or tls')
  const count = name === 'aedes-redis' ? nodes : 1
  const ports: [tcp: number, ws: number][] = []
  for (let node = 0; node < count; node++) ports.push([await freePort(), await freePort()])
  const redis = name === 'aedes-redis' ? await createRedis() : undefined
  await redis?.start()
  const made = isSecure(transport) ? makeCertificate() : undefined
  const folder = made === undefined ? undefined : await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  if (made !== undefined && folder !== undefined) await writeCertificate(folder, made)
  return ownBroker({
    endpoints: ports.map(([tcp, ws]) => localEndpoint(transport, isWebSocket(transport) ? ws : tcp, made?.cert)),
    dialect: 'plain',
    secret: '',
    services: redis === undefined ? {} : { redis },
    start: (node) => startChild(name, [...[...(ports[node] ?? []), redis?.port ?? 0].map(String), folder ?? ''], nodeArgs),
    async cleanUp() {
      await redis?.stop()
      if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    },
  })
}
