/** Yardstick: the mosquitto on the PATH, in memory, with no limit on what is in flight or queued. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canConnect, freePort, loopback } from '../../audit/loopback.js'
import { isSecure, isWebSocket, type Transport } from '../wire.js'
import { type Broker, type Child, collectOutput, endProcess, localEndpoint, ownBroker, whenReady } from './broker.js'
import { makeCertificate, writeCertificate } from './certificate.js'

const settings = ['allow_anonymous true', 'max_inflight_messages 0', 'max_queued_messages 0', 'set_tcp_nodelay true', 'persistence false']

export async function startMosquitto(transport: Transport): Promise<Broker> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const file = join(folder, 'mosquitto.conf')
  const made = isSecure(transport) ? makeCertificate() : undefined
  // Started by root it would change its user first, who may not use the folder.
  const lines = ['user root', `listener ${port} ${loopback}`]
  if (isWebSocket(transport)) lines.push('protocol websockets')
  if (made !== undefined) {
    const { certFile, keyFile } = await writeCertificate(folder, made)
    lines.push(`certfile ${certFile}`, `keyfile ${keyFile}`)
  }
  // Version 2.0.11 ends when all its listeners are for WebSocket.
  if (isWebSocket(transport)) lines.push(`listener 0 ${join(folder, 'mqtt.sock')}`)
  await writeFile(file, [...lines, ...settings, ''].join('\n'))
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/usr/local/sbin`
  const start = async (): Promise<Child> => {
    const child = spawn('mosquitto', ['-c', file], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: path } })
    const printed = collectOutput(child)
    try {
      await whenReady(child, printed, 'mosquitto', () => canConnect(port))
    } catch (error) {
      await endProcess(child)
      throw error
    }
    return { process: child, printed }
  }
  const cleanUp = (): Promise<void> => rm(folder, { recursive: true, force: true })
  return ownBroker({ endpoints: [localEndpoint(transport, port, made?.cert)], dialect: 'plain', secret: '', start, cleanUp })
}
