/**
 * Takes the PROXY header off a new socket, before anybody else reads from it: what comes behind the header is left in the socket. Whoever
 * does not send a header, whole, right and in time, is closed. A socket that closes without a byte is a health check and not worth a line.
 */
import type { Socket } from 'node:net'
import type { Logger } from './logger.js'
import { ProxyHeaderError, readProxyHeader } from './proxy-header.js'

export interface ProxyGreeting {
  logger: Logger
  timeoutMs: number
  /** The address of the client; called at most once, and not when the socket was closed. */
  greeted(address: string): void
}

export function awaitProxyHeader(socket: Socket, { logger, timeoutMs, greeted }: ProxyGreeting): void {
  const proxy = socket.remoteAddress ?? ''
  // At most a header and what one read gives.
  let taken: Buffer = Buffer.alloc(0)
  const end = (): void => {
    clearTimeout(timer)
    socket.removeListener('readable', read)
    socket.removeListener('close', end)
  }
  const refuse = (why: string): void => {
    end()
    logger.warn({ proxy, why }, 'a connection of a trusted proxy was closed: it must begin with a PROXY header')
    socket.destroy()
  }
  const read = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    taken = taken.length === 0 ? chunk : Buffer.concat([taken, chunk])
    try {
      const header = readProxyHeader(taken)
      if (header === undefined) return
      end()
      if (header.bytes < taken.length) socket.unshift(taken.subarray(header.bytes))
      greeted(header.address ?? proxy)
    } catch (error) {
      if (!(error instanceof ProxyHeaderError)) throw error
      refuse(error.message)
    }
  }
  const timer = setTimeout(() => refuse(`${taken.length} bytes came within ${timeoutMs} ms, and no whole header`), timeoutMs)
  socket.on('error', (error) => logger.debug({ err: error, proxy }, 'a connection of a trusted proxy failed'))
  socket.on('close', end)
  socket.on('readable', read)
}
