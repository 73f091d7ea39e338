/** A node of a cluster reduced to its open topics: the adapter on a TCP port, and everybody may publish and subscribe to all but `secret/#`. */

import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { AedesAdapter } from '../../broker/aedes-adapter.js'
import { AedesStream } from '../../broker/aedes-stream.js'
import { readConfig } from '../../broker/config.js'
import type { Connection } from '../../broker/connection.js'
import { createLogger } from '../../broker/logger.js'
import { PacketCutter } from '../../broker/mqtt/packet-cutter.js'
import { readConnect } from '../../broker/mqtt/validate.js'
import type { PluginHost } from '../../broker/plugin-host.js'
import { connectOpenTopics } from '../../broker/redis/cluster-open-topics.js'
import type { Store } from '../../broker/store/store.js'

export interface OpenNode {
  readonly port: number
  /** Breaks all connections and leaves Redis as a killed process does: nothing is taken back, nothing published. */
  kill(): void
}

const isOpen = (topic: string): boolean => !topic.startsWith('secret/')

const plugins = {
  authorizeOpenPublish: (_caller: object, topic: string) => isOpen(topic),
  authorizeOpenSubscribe: (_caller: object, filter: string) => isOpen(filter),
  authorizeOpenForward: (_caller: object, topic: string) => isOpen(topic),
} as unknown as PluginHost

const packetBytesMax = 1024 * 1024

export async function startOpenNode(t: Test, url: string, prefix: string): Promise<OpenNode> {
  const logger = createLogger('silent')
  const shared = await connectOpenTopics({ url, prefix, logger, willLifeMs: 900 })
  const adapter = new AedesAdapter({
    config: readConfig({}, { jwtSecret: 'x' }),
    logger,
    plugins,
    store: undefined as unknown as Store,
    shared: shared.create,
    publishWill: () => undefined,
  })
  await adapter.listen()
  const sockets = new Set<Socket>()
  const tcp = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    serve(socket, adapter)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => tcp.once('listening', resolve))
  let isAlive = true
  const stop = (): void => {
    isAlive = false
    for (const socket of sockets) socket.destroy()
    tcp.close()
  }
  t.teardown(async () => {
    if (isAlive) stop()
    await adapter.close()
    shared.close()
  })
  return {
    port: (tcp.address() as AddressInfo).port,
    kill() {
      shared.close()
      stop()
    },
  }
}

function serve(socket: Socket, adapter: AedesAdapter): void {
  const stream = new AedesStream({
    onPacket: (packet) => void socket.write(packet),
    onDestroy: () => void socket.end(() => stream.emit('close')),
    onRead: () => undefined,
    isCongested: () => false,
  })
  const connection = {
    caller: { user: '', device: '' },
    isClosed: false,
    unsentBytes: 0,
    close: () => socket.destroy(),
    connected: () => undefined,
  }
  const cutter = new PacketCutter(packetBytesMax, {
    packet(bytes, at, start, end) {
      if ((bytes[at] as number) >> 4 === 1) {
        const { connect } = readConnect(bytes, start, end)
        Object.assign(connection, { connect, caller: { user: connect.username ?? '', device: connect.clientId } })
        adapter.handle(connection as unknown as Connection, stream)
      }
      stream.give(Buffer.from(bytes.subarray(at, end)))
    },
  })
  socket.on('data', (bytes) => cutter.take(bytes))
  socket.on('error', () => undefined)
  socket.on('close', () => {
    connection.isClosed = true
    stream.destroyed = true
    stream.emit('close')
  })
}
