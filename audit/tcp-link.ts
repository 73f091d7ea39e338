/**
 * One TCP connection that goes through the audit: passes bytes on until it is told to do worse: cut or reset it, slow it down, let it
 * trickle, or fall silent without telling either end.
 */
import { createServer, type Server, type Socket } from 'node:net'

export type Harm =
  | { kind: 'delay'; ms: number }
  | { kind: 'trickle'; bytesPerSecond: number }
  | { kind: 'silence' }
  | { kind: 'cut' }
  | { kind: 'reset' }

const trickleMs = 50

/** One direction of a link. */
class Flow {
  delayMs = 0
  trickleBytes = 0
  isSilent = false
  readonly #from: Socket
  readonly #to: Socket
  readonly #held: { atMs: number; chunk: Buffer }[] = []
  #timer: NodeJS.Timeout | undefined
  #isEnding = false

  constructor(from: Socket, to: Socket) {
    this.#from = from
    this.#to = to
    from.on('data', (chunk) => this.#take(chunk))
    from.on('end', () => this.#end())
    to.on('drain', () => {
      if (!this.isSilent) from.resume()
    })
  }

  #take(chunk: Buffer): void {
    if (this.isSilent) return
    if (this.delayMs === 0 && this.trickleBytes === 0 && this.#held.length === 0) return this.#pass(chunk)
    this.#held.push({ atMs: performance.now() + this.delayMs, chunk })
    this.#from.pause()
    this.#timer ??= setInterval(() => this.#release(), trickleMs)
  }

  #pass(chunk: Buffer): void {
    if (!this.#to.destroyed && !this.#to.write(chunk)) this.#from.pause()
  }

  #release(): void {
    let room = this.trickleBytes === 0 ? Number.POSITIVE_INFINITY : this.trickleBytes
    for (let next = this.#held[0]; next !== undefined && room > 0 && next.atMs <= performance.now(); next = this.#held[0]) {
      const part = next.chunk.subarray(0, room)
      room -= part.length
      this.#pass(part)
      if (part.length === next.chunk.length) this.#held.shift()
      else next.chunk = next.chunk.subarray(part.length)
    }
    if (this.#held.length > 0) return
    this.stop()
    if (this.#isEnding) this.#to.end()
    else if (!this.isSilent) this.#from.resume()
  }

  #end(): void {
    this.#isEnding = true
    if (this.#held.length === 0 && !this.isSilent) this.#to.end()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

export class TcpLink {
  isSilent = false
  readonly #client: Socket
  readonly #server: Socket
  readonly #flows: Flow[]

  constructor(client: Socket, server: Socket, closed: () => void) {
    this.#client = client
    this.#server = server
    this.#flows = [new Flow(client, server), new Flow(server, client)]
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        if (this.isSilent) return
        other.destroy()
        for (const flow of this.#flows) flow.stop()
        closed()
      })
    }
  }

  harm(harm: Harm): void {
    if (harm.kind === 'cut') this.#client.destroy()
    else if (harm.kind === 'reset') {
      this.#server.resetAndDestroy()
      this.#client.resetAndDestroy()
    } else if (harm.kind === 'silence') {
      this.isSilent = true
      for (const flow of this.#flows) flow.isSilent = true
    } else {
      for (const flow of this.#flows) {
        if (harm.kind === 'delay') flow.delayMs = harm.ms
        else flow.trickleBytes = Math.max(1, Math.round((harm.bytesPerSecond * trickleMs) / 1_000))
      }
    }
  }

  heal(): void {
    for (const flow of this.#flows) Object.assign(flow, { delayMs: 0, trickleBytes: 0 })
    if (this.isSilent) this.destroy() // What was swallowed cannot be made good.
  }

  destroy(): void {
    this.isSilent = false
    this.#client.destroy()
    this.#server.destroy()
    for (const flow of this.#flows) flow.stop()
  }
}

export function listen(accept: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true, allowHalfOpen: false }, accept)
    server.on('error', reject)
    server.listen({ port: 0, host: '127.0.0.1', backlog: 2_048 }, () => resolve(server))
  })
}

export function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy does not listen')
  return address.port
}
