/** A TCP proxy in front of a service: while it is cut nothing passes either way, and neither end is told. */
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface Gate {
  readonly port: number
  cut(): void
  /** What was cut is broken off, so that new connections are made; these pass. */
  heal(): void
}

export async function openGate(t: Test, port: number): Promise<Gate> {
  const sockets = new Set<Socket>()
  let isCut = false
  const join = (from: Socket, to: Socket): void => {
    sockets.add(from)
    from.on('data', (bytes) => void (isCut || to.write(bytes)))
    from.on('error', () => undefined)
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
  }
  const server = createServer({ noDelay: true }, (client) => {
    const service = connect({ port, host: '127.0.0.1', noDelay: true })
    join(client, service)
    join(service, client)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const breakOff = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    breakOff()
    server.close()
  })
  return {
    port: (server.address() as { port: number }).port,
    cut: () => {
      isCut = true
    },
    heal: () => {
      isCut = false
      breakOff()
    },
  }
}
