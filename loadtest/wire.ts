/**
 * The byte pipe under a load client: TCP, TLS, or MQTT in WebSocket frames over either. All TCP connections of a process share one
 * read buffer, so the bytes given to `data` are only valid during the call.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls'
import { createWebSocketWire } from './web-socket-wire.js'

export const transports = ['tcp', 'tls', 'ws', 'wss'] as const
export type Transport = (typeof transports)[number]

export const isSecure = (transport: Transport): boolean => transport === 'tls' || transport === 'wss'
export const isWebSocket = (transport: Transport): boolean => transport === 'ws' || transport === 'wss'

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

/** The system would look for a free one for each, which takes longer than to connect where many are in use. */
const ports = { first: 10_000, last: 59_999 }
let lastPort = ports.first
const readBytes = 64 * 1024
const readBuffer = Buffer.allocUnsafeSlow(readBytes)

export function createWire(endpoint: Endpoint, events: WireEvents): Wire {
  const isTls = isSecure(endpoint.transport)
  const open = (events: WireEvents, writing: 'shares' | 'copies'): Wire =>
    isTls ? tlsWire(endpoint, events) : wireOver(openTcp(endpoint, events), events, writing)
  if (isWebSocket(endpoint.transport)) return createWebSocketWire(endpoint, events, (inner) => open(inner, 'copies'))
  return open(events, 'shares')
}

/** Ports in turn: when all were used, those of the first are long free again. */
function sourceOf(localAddress: string | undefined): { localAddress?: string; localPort?: number } {
  if (localAddress === undefined) return {}
  lastPort = lastPort === ports.last ? ports.first : lastPort + 1
  return { localAddress, localPort: lastPort }
}

function openTcp({ host, port, localAddress }: Endpoint, events: WireEvents): Socket {
  const callback = (length: number): boolean => {
    events.data(readBuffer, length)
    return true
  }
  const from = sourceOf(localAddress)
  const socket = connectTcp({ host, port, ...from, noDelay: true, onread: { buffer: readBuffer, callback } })
  socket.resume()
  return socket
}

/** One for all connections of the process: reading the authorities takes longer than a handshake. */
let trust: { ca: string | undefined; context: SecureContext } | undefined

function tlsWire({ host, port, localAddress, ca, insecure }: Endpoint, events: WireEvents): Wire {
  if (trust === undefined || trust.ca !== ca) trust = { ca, context: createSecureContext(ca === undefined ? {} : { ca }) }
  const from = sourceOf(localAddress)
  const tcp = connectTcp({ host, port, ...from, noDelay: true })
  const name = isIP(host) === 0 ? { servername: host } : {}
  const socket = connectTls({ socket: tcp, host, ...name, secureContext: trust.context, rejectUnauthorized: insecure !== true })
  socket.on('data', (chunk: Buffer) => events.data(chunk, chunk.length))
  tcp.on('error', (error) => socket.destroy(error))
  return { ...wireOver(socket, events, 'copies'), reset: () => void tcp.resetAndDestroy() }
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
