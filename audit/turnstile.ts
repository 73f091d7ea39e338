/**
 * A front before FerretDB 1 that lets one command through at a time. FerretDB reads a document, changes it and writes it back without a
 * transaction, so of two updates of one document at once one is lost, which no MongoDB does; and on SQLite commands that wait for each
 * other are starved. What is left is a server whose updates are atomic, as the nodes may rely on, and that does not answer what is not to
 * be answered.
 */
import { connect, type Socket } from 'node:net'
import { listen, portOf } from './tcp-link.js'

export interface Turnstile {
  readonly port: number
  close(): Promise<void>
}

/** Cuts the bytes of one direction into messages: each begins with its length. */
class MessageCutter {
  #rest: Buffer = Buffer.alloc(0)

  take(chunk: Buffer): Buffer[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const messages: Buffer[] = []
    let at = 0
    while (bytes.length - at >= headerBytes && bytes.length - at >= bytes.readInt32LE(at)) {
      const end = at + Math.max(headerBytes, bytes.readInt32LE(at))
      messages.push(bytes.subarray(at, end))
      at = end
    }
    this.#rest = bytes.subarray(at)
    return messages
  }
}

const headerBytes = 16
const opMsg = 2013
const moreToCome = 2

/** Nobody expects one to a write with concern 0; FerretDB gives it all the same, and MongoDB does not. */
const expectsAnswer = (message: Buffer): boolean =>
  message.length < headerBytes + 4 || message.readInt32LE(12) !== opMsg || (message.readUInt32LE(headerBytes) & moreToCome) === 0

export async function createTurnstile(servicePort: number): Promise<Turnstile> {
  const links = new Set<Socket>()
  const waiting: (() => void)[] = []
  let isTaken = false
  const enter = (pass: () => void): void => {
    if (isTaken) return void waiting.push(pass)
    isTaken = true
    pass()
  }
  const leave = (): void => {
    isTaken = false
    const next = waiting.shift()
    if (next !== undefined) enter(next)
  }
  const server = await listen((client) => {
    const service = connect({ port: servicePort, host: '127.0.0.1', noDelay: true })
    const [asked, answered] = [new MessageCutter(), new MessageCutter()]
    let isInside = false
    let isAwaited = true
    const out = (): void => {
      if (!isInside) return
      isInside = false
      leave()
    }
    const pass = (message: Buffer) => () => {
      if (service.destroyed) return leave()
      isInside = true
      isAwaited = expectsAnswer(message)
      service.write(message)
    }
    client.on('data', (chunk) => {
      for (const message of asked.take(chunk)) enter(pass(message))
    })
    service.on('data', (chunk) => {
      for (const message of answered.take(chunk)) {
        if (isAwaited) client.write(message)
        out()
      }
    })
    for (const [socket, other] of [
      [client, service],
      [service, client],
    ] as const) {
      links.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        links.delete(socket)
        other.destroy()
        if (socket === service) out()
      })
    }
  })
  return {
    port: portOf(server),
    async close() {
      for (const socket of links) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
