/**
 * A byte pipe to one client, over TCP, TLS or WebSocket, as the connection needs it: no stream, no object per packet.
 * `write` never blocks and never throws; what the peer does not read is counted by `unsentBytes`.
 */
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'

export interface TransportEvents {
  data(bytes: Buffer): void
  /** Everything unsent has left. */
  drained(): void
  /** Called once, whoever closed it. */
  closed(why: string): void
}

export interface Transport {
  /** A WebSocket is one with and without TLS below. */
  readonly kind: 'tcp' | 'tls' | 'ws'
  /** Address of the client, for logs and limits. */
  readonly address: string
  readonly unsentBytes: number
  listen(events: TransportEvents): void
  /** The bytes must not change while anything is unsent. */
  write(bytes: Buffer): void
  pause(): void
  resume(): void
  /** From now on the system finds out when a silent peer has gone. For those whom MQTT does not oblige to speak: it costs four system calls. */
  keepAlive(): void
  /** Sends what is unsent, then closes; at once when the peer does not take it within a second. */
  end(): void
  destroy(): void
}

const endGraceMs = 1000
const tcpKeepAliveMs = 60_000

const transportKey = Symbol('transport')
type OwnedSocket = Socket & { [transportKey]?: SocketTransport }

// The same for all sockets: listeners of its own would take 300 bytes of every connection.
function onData(this: OwnedSocket, bytes: Buffer): void {
  this[transportKey]?.events?.data(bytes)
}

function onDrain(this: OwnedSocket): void {
  this[transportKey]?.events?.drained()
}

function onError(this: OwnedSocket, error: Error): void {
  const transport = this[transportKey]
  if (transport !== undefined) transport.why = error.message
}

function onClose(this: OwnedSocket): void {
  const transport = this[transportKey]
  transport?.events?.closed(transport.why)
}

/** A TLS socket behaves like the TCP socket below it: what is encrypted and not yet sent counts as unsent. */
export class SocketTransport implements Transport {
  readonly #socket: OwnedSocket
  events: TransportEvents | undefined
  why = 'closed by the client'

  constructor(
    socket: Socket,
    readonly kind: 'tcp' | 'tls',
    readonly address: string,
  ) {
    this.#socket = socket
  }

  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  listen(events: TransportEvents): void {
    this.events = events
    this.#socket[transportKey] = this
    this.#socket.on('data', onData)
    this.#socket.on('drain', onDrain)
    this.#socket.on('error', onError)
    this.#socket.on('close', onClose)
  }

  write(bytes: Buffer): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  keepAlive(): void {
    this.#socket.setKeepAlive(true, tcpKeepAliveMs)
  }

  end(): void {
    const socket = this.#socket
    if (socket.destroyed) return
    if (socket.writableLength > 0) setTimeout(() => socket.destroy(), endGraceMs).unref()
    socket.destroySoon()
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

/** `socket`: what is below it. */
export function createWebSocketTransport(ws: WebSocket, address: string, socket: Socket): Transport {
  let events: TransportEvents | undefined
  let draining = false
  const sent = (): void => {
    if (draining && ws.bufferedAmount === 0) {
      draining = false
      events?.drained()
    }
  }
  return {
    kind: 'ws',
    address,
    get unsentBytes() {
      return ws.bufferedAmount
    },
    listen(listeners) {
      events = listeners
      let why = 'closed by the client'
      ws.on('message', (message, isBinary) => {
        if (isBinary) return listeners.data(message as Buffer)
        why = 'a text frame [MQTT-6.0.0-1]'
        ws.terminate()
      })
      ws.on('error', (error) => {
        why = error.message
      })
      ws.on('close', () => listeners.closed(why))
    },
    write(bytes) {
      if (ws.readyState !== ws.OPEN) return
      ws.send(bytes, sent)
      if (ws.bufferedAmount > 0) draining = true
    },
    pause() {
      ws.pause()
    },
    resume() {
      ws.resume()
    },
    keepAlive() {
      socket.setKeepAlive(true, tcpKeepAliveMs)
    },
    end() {
      ws.resume()
      ws.close(1000)
      setTimeout(() => ws.terminate(), endGraceMs).unref()
    },
    destroy() {
      ws.terminate()
    },
  }
}
