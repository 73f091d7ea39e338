/** Answers what is no HTTP request, in the form of every other error, and closes: nobody knows where the next request would begin. */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { refuse } from './errors.js'

const faults: Record<string, { status: number; message: string }> = {
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, message: 'the headers of the request took too long' },
  HPE_HEADER_OVERFLOW: { status: 431, message: 'the headers of the request are too large' },
}
const otherFault = { status: 400, message: 'this is no HTTP request' }

export function answerMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (socket.writable && error.code !== 'ECONNRESET') {
    const { status, message } = faults[error.code ?? ''] ?? otherFault
    const body = JSON.stringify({ error: refuse('invalid', message).body() })
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8`
    socket.write(`${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }
  socket.destroy()
}
