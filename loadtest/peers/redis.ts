/** The Redis below the yardstick aedes-redis: the redis-server on the PATH, in memory. */
import { spawn } from 'node:child_process'
import { connect } from 'node:net'
import { collectOutput, endProcess, freePort, loopback, whenReady } from './broker.js'

export interface Redis {
  port: number
  pid: number
  stop(): Promise<void>
}

export async function startRedis(): Promise<Redis> {
  const port = await freePort()
  const child = spawn('redis-server', ['--bind', loopback, '--port', String(port), '--save', '', '--appendonly', 'no'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const printed = collectOutput(child)
  const stop = (): Promise<void> => endProcess(child)
  try {
    await whenReady(child, printed, 'redis-server', () => canConnect(port))
  } catch (error) {
    await stop()
    throw error
  }
  return { port, pid: child.pid ?? 0, stop }
}

/** Whether somebody listens on this port of the loopback. */
export function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: loopback })
    const settle = (isOpen: boolean): void => {
      socket.destroy()
      resolve(isOpen)
    }
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}
