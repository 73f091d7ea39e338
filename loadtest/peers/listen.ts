/** The doors of the yardsticks that are Node modules: TCP and WebSocket, on the ports that the tool chose, both with TLS when it gave a certificate. */
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { loopback } from '../../audit/loopback.js'
import { readCertificate } from './certificate.js'

/** Arguments of a yardstick: ports for TCP, WebSocket and, where there is one, Redis; then the folder of a certificate, or nothing. */
export const portArguments = (): [tcp: number, ws: number, redis: number] => {
  const [tcp = 0, ws = 0, redis = 0] = process.argv.slice(2, 5).map(Number)
  return [tcp, ws, redis]
}

const folderArgument = process.argv[5] ?? ''
const certificate = folderArgument === '' ? undefined : readCertificate(folderArgument)
const backlog = 4_096

export async function listenTcp(port: number, accept: (socket: Socket) => void): Promise<void> {
  const options = { noDelay: true, highWaterMark: 64 * 1024 }
  const server = certificate === undefined ? createServer(options, accept) : createTlsServer({ ...options, ...certificate }, accept)
  await new Promise<void>((resolve) => server.listen({ port, host: loopback, backlog }, resolve))
}

export async function listenWebSocket(port: number, accept: (stream: Duplex) => void): Promise<void> {
  const http = certificate === undefined ? createHttpServer() : createHttpsServer(certificate)
  const server = new WebSocketServer({ server: http, perMessageDeflate: false, handleProtocols: () => 'mqtt' })
  server.on('connection', (ws) => {
    const stream = createWebSocketStream(ws)
    // Without it each of mqtt-packet's small writes is a frame of its own: a third of the speed.
    stream._writev = (chunks, done) => stream._write(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), 'buffer' as never, done)
    stream.on('error', () => stream.destroy())
    accept(stream)
  })
  await new Promise<void>((resolve) => http.listen({ port, host: loopback, backlog }, resolve))
}

/** Tells the tool that the yardstick is there, and ends with it. */
export function announce(): void {
  process.on('SIGTERM', () => process.exit())
  process.on('disconnect', () => process.exit())
  process.send?.('listening')
}
