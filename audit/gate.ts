/**
 * The network between one node and a service behind it: can be cut off, as when a cable is pulled, so that nothing passes and neither end
 * is told, or made slow. What is opened meanwhile suffers the same.
 */
import { connect } from 'node:net'
import { type Harm, listen, portOf, TcpLink } from './tcp-link.js'

export interface Gate {
  readonly port: number
  cutOff(): void
  /** By so much for there and back. */
  slowDown(ms: number): void
  /** What was cut off is closed now, so that both ends begin anew. */
  heal(): void
  close(): Promise<void>
}

export async function createGate(port: number, host = '127.0.0.1'): Promise<Gate> {
  const links = new Set<TcpLink>()
  let harm: Harm | undefined
  const server = await listen((client) => {
    const link = new TcpLink(client, connect({ port, host, noDelay: true }), () => links.delete(link))
    links.add(link)
    if (harm !== undefined) link.harm(harm)
  })
  const harmAll = (kind: Harm): void => {
    harm = kind
    for (const link of links) link.harm(kind)
  }
  return {
    port: portOf(server),
    cutOff: () => harmAll({ kind: 'silence' }),
    slowDown: (ms) => harmAll({ kind: 'delay', ms: ms / 2 }),
    heal() {
      harm = undefined
      for (const link of links) link.heal()
    },
    async close() {
      for (const link of links) link.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
