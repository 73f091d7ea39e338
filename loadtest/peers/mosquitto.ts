/** Yardstick: the mosquitto on the PATH, in memory, with no limit on what is in flight or queued. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Broker, collectOutput, endProcess, freePort, whenReady } from './broker.js'

export async function startMosquitto(): Promise<Broker> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'parley-loadtest-'))
  const file = join(folder, 'mosquitto.conf')
  const settings = ['allow_anonymous true', 'max_inflight_messages 0', 'max_queued_messages 0', 'set_tcp_nodelay true', 'persistence false']
  await writeFile(file, [`listener ${port} 127.0.0.1`, ...settings, ''].join('\n'))
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/usr/local/sbin`
  const child = spawn('mosquitto', ['-c', file], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: path } })
  const printed = collectOutput(child)
  const stop = async (): Promise<void> => {
    await endProcess(child)
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await whenReady(child, printed, 'mosquitto', () => isListening(port))
  } catch (error) {
    await stop()
    throw error
  }
  return { host: '127.0.0.1', port, dialect: 'plain', secret: '', pid: child.pid, printed, stop }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const settle = (isOpen: boolean): void => {
      socket.destroy()
      resolve(isOpen)
    }
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}
