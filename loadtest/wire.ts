/**
 * The byte pipe under a load client: TCP, TLS, or MQTT in WebSocket frames over TCP. All TCP connections of a process share one
 * read buffer, so the bytes given to `data` are only valid during the call.
 */
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { createWebSocketWire } from './web-socket-wire.js'

export const transports = ['tcp', 'ws', 'tls'] as const
export type Transport = (typeof transports)[number]

/** Where the broker is and how it is spoken to. */
export interface Endpoint {
  transport: Transport
  host: string
  port: number
  /** Of the WebSocket's URL. */
  path: string
  /** Source address, when the ports of one address do not suffice. */
  localAddress?: string
  /** PEM of the authority that signed the broker's certificate; absent: those that Node knows. */
  ca?: string
  /** Takes any certificate. */
  insecure?: boolean
}

export interface WireEvents {
  /** What arrived is `bytes[0, length)`. */
  data(bytes: Buffer, length: number): void
  closed(reason: string): void
}

export interface Wire {
  readonly isDestroyed: boolean
  /** True when the bytes may be reused at once. */
  write(bytes: Buffer): boolean
  pause(): void
  resume(): void
  /** Sends the last bytes and resolves when the connection is closed. */
  end(bytes: Buffer): Promise<void>
  destroy(): void
  /** Cuts the connection: the peer sees a reset. */
  reset(): void
}

const readBytes = 64 * 1024
const readBuffer = Buffer.allocUnsafeSlow(readBytes)

export function createWire(endpoint: Endpoint, events: WireEvents): Wire {
  if (endpoint.transport === 'tls') return wireOver(openTls(endpoint, events), events, 'copies')
  if (endpoint.transport === 'ws')
    return createWebSocketWire(endpoint, events, (inner) => wireOver(openTcp(endpoint, inner), inner, 'copies'))
  return wireOver(openTcp(endpoint, events), events, 'shares')
}

function openTcp({ host, port, localAddress }: Endpoint, events: WireEvents): Socket {
  const callback = (length: number): boolean => {
    events.data(readBuffer, length)
    return true
  }
  const from = localAddress === undefined ? {} : { localAddress }
  const socket = connectTcp({ host, port, ...from, noDelay: true, onread: { buffer: readBuffer, callback } })
  socket.resume()
  return socket
}

function openTls({ host, port, ca, insecure }: Endpoint, events: WireEvents): Socket {
  const trust = ca === undefined ? {} : { ca }
  const socket = connectTls({ host, port, ...trust, rejectUnauthorized: insecure !== true })
  socket.setNoDelay(true)
  socket.on('data', (chunk: Buffer) => events.data(chunk, chunk.length))
  return socket
}

/** With `copies` what is written does not leave at once from the caller's buffer. */
function wireOver(socket: Socket, events: WireEvents, writing: 'shares' | 'copies'): Wire {
  socket.on('error', (error) => events.closed(error.message))
  socket.on('close', () => events.closed('closed by the broker'))
  return {
    get isDestroyed() {
      return socket.destroyed
    },
    write(bytes) {
      if (writing === 'copies') {
        socket.write(Buffer.from(bytes))
        return true
      }
      socket.write(bytes)
      return socket.writableLength === 0
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    async end(bytes) {
      if (socket.destroyed) return
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      socket.end(Buffer.from(bytes))
      socket.resume()
      await closed
    },
    destroy: () => void socket.destroy(),
    reset: () => void socket.resetAndDestroy(),
  }
}
