/** One byte stream to the server, over TCP or WebSocket, that can be paused and broken off. */
import { connect as connectTcp } from 'node:net'
import { WebSocket } from 'ws'

export interface Pipe {
  /** By which the proxy knows the connection; 0 until it is open. */
  readonly localPort: number
  write(bytes: Buffer): void
  pause(): void
  resume(): void
  destroy(): void
}

export interface PipeEvents {
  opened(): void
  data(chunk: Buffer): void
  /** Called once, also when it never opened. */
  closed(): void
}

export type Transport = 'tcp' | 'ws'

export const openPipe = (transport: Transport, ports: { mqttPort: number; httpPort: number }, events: PipeEvents): Pipe =>
  transport === 'ws' ? openWebSocket(ports.httpPort, events) : openTcp(ports.mqttPort, events)

function openTcp(port: number, events: PipeEvents): Pipe {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  socket.on('connect', events.opened)
  socket.on('data', events.data)
  socket.on('error', () => socket.destroy())
  socket.on('close', events.closed)
  return {
    get localPort() {
      return socket.localPort ?? 0
    },
    write: (bytes) => void (socket.destroyed || socket.write(bytes)),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    destroy: () => socket.destroy(),
  }
}

function openWebSocket(port: number, events: PipeEvents): Pipe {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/mqtt`, ['mqtt'], { perMessageDeflate: false, skipUTF8Validation: true })
  let localPort = 0
  socket.on('upgrade', (response) => {
    localPort = response.socket.localPort ?? 0
  })
  socket.on('open', events.opened)
  socket.on('message', (chunk) => events.data(chunk as Buffer)) // binaryType is nodebuffer
  socket.on('error', () => socket.terminate())
  socket.on('close', events.closed)
  return {
    get localPort() {
      return localPort
    },
    write: (bytes) => void (socket.readyState === WebSocket.OPEN && socket.send(bytes)),
    pause: () => void (socket.readyState === WebSocket.OPEN && socket.pause()),
    resume: () => void (socket.readyState === WebSocket.OPEN && socket.resume()),
    destroy: () => socket.terminate(),
  }
}
