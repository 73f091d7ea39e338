/**
 * The doors: MQTT over TCP, over TLS, and over WebSocket at /mqtt of the HTTP server. Each accepted socket becomes a transport; what is
 * not welcome (too many, foreign origin, wrong subprotocol, no TLS in time) is turned away here, before it costs anything. Behind a
 * trusted proxy a transport has the address of the client, by PROXY header or, for WebSocket, by X-Forwarded-For.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer, TLSSocket } from 'node:tls'
import { WebSocketServer } from 'ws'
import type { AddressLimits } from './address-limits.js'
import type { Certificate } from './certificate.js'
import type { Config } from './config.js'
import type { Logger } from './logger.js'
import { awaitProxyHeader } from './proxy-greeting.js'
import { createWebSocketTransport, SocketTransport, type Transport } from './transport.js'
import type { TrustedProxies } from './trusted-proxies.js'

const subprotocols = ['mqtt', 'mqttv3.1']

export interface Listeners {
  /** Undefined where there is no such door. */
  readonly mqttPort: number | undefined
  readonly mqttsPort: number | undefined
  /** Turns new connections away from now on. */
  stop(): void
}

/** Takes a new socket and the address of its client. */
type Enter = (socket: Socket, address: string) => void

export interface ListenersOptions {
  config: Config
  logger: Logger
  http: HttpServer
  /** Undefined: no TLS. */
  certificate: Certificate | undefined
  proxies: TrustedProxies
  addresses: AddressLimits
  connections(): number
  /** A connection was turned away because there are too many from its address. */
  refused(address: string): void
  accept(transport: Transport): void
}

export async function listen(options: ListenersOptions): Promise<Listeners> {
  const { config, logger, certificate, accept, proxies, addresses, refused } = options
  let isStopped = false
  const isFull = (): boolean => isStopped || options.connections() >= config.connectionsMax
  const admits = (socket: Duplex, address: string): boolean => {
    if (addresses.admits(socket, address)) return true
    refused(address)
    return false
  }
  const doors: Server[] = []
  const open = async (port: number, enter: Enter): Promise<number> => {
    const door = createServer({ noDelay: true }, (socket) => {
      const peer = socket.remoteAddress ?? ''
      const greeted = (address: string): void => {
        if (admits(socket, address)) enter(socket, address)
        else socket.destroy()
      }
      if (isFull()) socket.destroy()
      else if (!proxies.has(peer)) greeted(peer)
      else awaitProxyHeader(socket, { logger, timeoutMs: config.connectTimeoutMs, greeted })
    })
    // Also bounds those that are not yet connections, as their handshake is going on.
    door.maxConnections = config.connectionsMax
    doors.push(door)
    const opened = await listenOn(door, port, config.host)
    door.on('error', (error) => logger.error({ err: error }, 'an MQTT listener failed'))
    return opened
  }
  const stop = (): void => {
    if (isStopped) return
    isStopped = true
    for (const door of doors) door.close()
    ws.close()
  }
  const ws = acceptWebSockets(options, admits, isFull)
  try {
    const tls = certificate === undefined ? undefined : handshakes(certificate, options, isFull)
    return {
      mqttPort:
        config.mqttPort === undefined
          ? undefined
          : await open(config.mqttPort, (socket, address) => accept(new SocketTransport(socket, 'tcp', address))),
      mqttsPort: tls === undefined ? undefined : await open(config.mqttsPort, tls),
      stop,
    }
  } catch (error) {
    stop()
    throw error
  }
}

/** Takes a TCP socket and accepts it when its handshake is done; one that fails or takes too long is closed. */
function handshakes(certificate: Certificate, { config, logger, accept }: ListenersOptions, isFull: () => boolean): Enter {
  // By the peer, which is the same above and below TLS; no more than there are open sockets.
  const addresses = new Map<string, string>()
  const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`
  const tls = certificate.serve(createTlsServer({ ...certificate.options, handshakeTimeout: config.connectTimeoutMs }))
  tls.on('secureConnection', (socket) => {
    if (isFull()) socket.destroy()
    else accept(new SocketTransport(socket, 'tls', addresses.get(peerOf(socket)) ?? ''))
  })
  tls.on('tlsClientError', (error, socket) => {
    logger.debug({ err: error, address: socket.remoteAddress }, 'a TLS handshake failed')
    // Node does so itself, but not after a timeout.
    socket.destroy()
  })
  return (socket, address) => {
    const peer = peerOf(socket)
    addresses.set(peer, address)
    socket.on('close', () => addresses.delete(peer))
    tls.emit('connection', socket)
  }
}

function acceptWebSockets(
  { config, logger, http, accept, proxies }: ListenersOptions,
  admits: (socket: Duplex, address: string) => boolean,
  isFull: () => boolean,
): WebSocketServer {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: config.packetBytesMax + config.connectBytesMax,
    perMessageDeflate: false,
    handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false,
  })
  // Behind a proxy a request says whose it is, and its connection may carry those of many.
  http.on('connection', (socket: Socket) => {
    const peer = socket.remoteAddress ?? ''
    if (!proxies.has(peer) && !admits(socket, peer)) socket.destroy()
  })
  http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', (error) => logger.debug({ err: error }, 'WebSocket upgrade failed'))
    const refusal = isFull() ? '503 Service Unavailable' : refusalOf(request, socket, config)
    if (refusal !== undefined) return refuseUpgrade(socket, refusal)
    const address = proxies.clientOfRequest(request)
    if (proxies.has(request.socket.remoteAddress ?? '') && !admits(socket, address)) return refuseUpgrade(socket, '429 Too Many Requests')
    server.handleUpgrade(request, socket, head, (client) => accept(createWebSocketTransport(client, address, request.socket)))
  })
  return server
}

/** The HTTP server has let go of this socket: a client that never closes its end would keep it, and the server from ending. */
function refuseUpgrade(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}

/** The status line with which an upgrade is refused. */
function refusalOf({ url = '', headers }: IncomingMessage, socket: Duplex, config: Config): string | undefined {
  if (url.split('?')[0] !== '/mqtt') return '404 Not Found'
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  if (!subprotocols.some((name) => offered.includes(name))) return '400 Bad Request' // [MQTT-6.0.0-3]
  const { origin, host } = headers
  // A program sends no Origin.
  if (origin === undefined || config.allowedOrigins.includes(origin)) return undefined
  return isOwnOrigin(origin, host, socket instanceof TLSSocket) ? undefined : '403 Forbidden'
}

/** Without TLS the scheme says nothing: a proxy in front may speak it. */
function isOwnOrigin(origin: string, host: string | undefined, isTls: boolean): boolean {
  if (!URL.canParse(origin)) return false
  const url = new URL(origin)
  return url.host === host && (url.protocol === 'https:' || !isTls)
}

function listenOn(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, backlog: 4_096 }, () => {
      server.removeListener('error', reject)
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
