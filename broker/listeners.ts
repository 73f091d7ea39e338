/**
 * The doors: MQTT over TCP, and over WebSocket at /mqtt of the HTTP server. Each accepted socket becomes a transport; what is not
 * welcome (too many, foreign origin, wrong subprotocol) is turned away here, before it costs anything.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { Config } from './config.js'
import type { Logger } from './logger.js'
import { createTcpTransport, createWebSocketTransport, type Transport } from './transport.js'

const tcpKeepAliveMs = 60_000
const subprotocols = ['mqtt', 'mqttv3.1']

export interface Listeners {
  readonly mqttPort: number
  /** Turns new connections away from now on. */
  stop(): void
}

export interface ListenersOptions {
  config: Config
  logger: Logger
  http: HttpServer
  connections(): number
  accept(transport: Transport): void
}

export async function listen(options: ListenersOptions): Promise<Listeners> {
  const { config, logger, accept } = options
  let isStopped = false
  const isFull = (): boolean => isStopped || options.connections() >= config.connectionsMax
  const tcp = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs }, (socket: Socket) => {
    if (isFull()) socket.destroy()
    else accept(createTcpTransport(socket))
  })
  const ws = acceptWebSockets(options, isFull)
  const mqttPort = await listenOn(tcp, config.mqttPort, config.host)
  tcp.on('error', (error) => logger.error({ err: error }, 'the MQTT listener failed'))
  return {
    mqttPort,
    stop() {
      isStopped = true
      tcp.close()
      ws.close()
    },
  }
}

function acceptWebSockets({ config, logger, http, accept }: ListenersOptions, isFull: () => boolean): WebSocketServer {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: config.packetBytesMax + config.connectBytesMax,
    perMessageDeflate: false,
    handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false,
  })
  http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', (error) => logger.debug({ err: error }, 'WebSocket upgrade failed'))
    const refusal = isFull() ? '503 Service Unavailable' : refusalOf(request, config)
    if (refusal !== undefined) return refuseUpgrade(socket, refusal)
    server.handleUpgrade(request, socket, head, (client) => accept(createWebSocketTransport(client, request.socket.remoteAddress ?? '')))
  })
  return server
}

/** The HTTP server has let go of this socket: a client that never closes its end would keep it, and the server from ending. */
function refuseUpgrade(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}

/** The status line with which an upgrade is refused. */
function refusalOf({ url = '', headers }: IncomingMessage, config: Config): string | undefined {
  if (url.split('?')[0] !== '/mqtt') return '404 Not Found'
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  if (!subprotocols.some((name) => offered.includes(name))) return '400 Bad Request' // [MQTT-6.0.0-3]
  return isOriginAllowed(headers.origin, headers.host, config.allowedOrigins) ? undefined : '403 Forbidden'
}

/** A page may open a WebSocket only from the server's own origin or a listed one; programs send no Origin. */
function isOriginAllowed(origin: string | undefined, host: string | undefined, allowed: readonly string[]): boolean {
  if (origin === undefined || allowed.includes(origin)) return true
  return URL.canParse(origin) && new URL(origin).host === host
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
