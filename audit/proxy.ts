/**
 * The network between the clients and the deployment: a TCP proxy that sends each connection to a server that is up, and does harm to
 * one connection when it is told to. Its ports stay the same while servers come and go behind it.
 */
import { connect, type Socket } from 'node:net'
import { type Harm, listen, portOf, TcpLink } from './tcp-link.js'

export interface Target {
  mqttPort: number
  httpPort: number
}

export interface FaultyProxy {
  readonly mqttPort: number
  readonly httpPort: number
  /** Does something to the connection whose client has this local port; false when there is none. */
  harm(localPort: number, harm: Harm): boolean
  heal(localPort: number): void
  healAll(): void
  /** It was silenced at some time, even if it has ended since. */
  wasSilent(localPort: number): boolean
  close(): Promise<void>
}

/** `target` names a server that is up; undefined: nobody listens. */
export async function createProxy(target: () => Target | undefined): Promise<FaultyProxy> {
  const links = new Map<number, TcpLink>()
  const silenced = new Set<number>()
  const accept = (portOf: (target: Target) => number) => (client: Socket) => {
    const to = target()
    const { remotePort } = client
    if (to === undefined || remotePort === undefined) return client.destroy()
    const server = connect({ port: portOf(to), host: '127.0.0.1', noDelay: true })
    const link = new TcpLink(client, server, () => {
      if (links.get(remotePort) === link) links.delete(remotePort)
    })
    links.get(remotePort)?.destroy()
    silenced.delete(remotePort)
    links.set(remotePort, link)
  }
  const mqtt = await listen(accept(({ mqttPort }) => mqttPort))
  const http = await listen(accept(({ httpPort }) => httpPort))
  return {
    mqttPort: portOf(mqtt),
    httpPort: portOf(http),
    harm(localPort, harm) {
      const link = links.get(localPort)
      link?.harm(harm)
      if (link !== undefined && harm.kind === 'silence') silenced.add(localPort)
      return link !== undefined
    },
    heal: (localPort) => links.get(localPort)?.heal(),
    healAll: () => [...links.values()].forEach((link) => link.heal()),
    wasSilent: (localPort) => silenced.has(localPort),
    async close() {
      for (const link of links.values()) link.destroy()
      await Promise.all([mqtt, http].map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}
