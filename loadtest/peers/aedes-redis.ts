/**
 * Yardstick: Aedes as one would run it in a cluster, with aedes-persistence-redis and mqemitter-redis on a Redis of its own. The three
 * packages are no dependencies of Parley: whoever wants this yardstick installs them.
 */
import { Aedes } from 'aedes'
import { announce, listenTcp, listenWebSocket, portArguments } from './listen.js'

const packages = ['aedes-persistence-redis', 'mqemitter-redis', 'ioredis'] as const

interface Emitter {
  state?: { on(event: 'error', heard: (error: Error) => void): void }
}

type Create = (options: object) => Emitter

/** The package's main export. Loaded by name, since it need not be there. */
async function load(name: (typeof packages)[number]): Promise<unknown> {
  try {
    const module = (await import(String(name))) as { default: unknown; Redis?: unknown }
    return module.Redis ?? module.default
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new Error(
      `${name} is not installed; the yardstick aedes-redis needs: npm install --no-save --legacy-peer-deps ${packages.join(' ')}`,
    )
  }
}

const [tcpPort, wsPort, redisPort] = portArguments()
try {
  const [createPersistence, createEmitter, Redis] = (await Promise.all(packages.map(load))) as [
    Create,
    Create,
    new (port: number, options: object) => object,
  ]
  // Without disableClientInfo a subscribe may meet the handshake and end the process (redis/ioredis#2037).
  const connection = (): object => new Redis(redisPort, { disableClientInfo: true })
  const mq = createEmitter({ subConn: connection(), pubConn: connection(), concurrency: 0 })
  mq.state?.on('error', (error) => process.stderr.write(`mqemitter-redis: ${error.message}\n`))
  const persistence = createPersistence({ conn: connection() })
  const aedes = await Aedes.createBroker({ mq, persistence, concurrency: 0 })
  await listenTcp(tcpPort, (socket) => void aedes.handle(socket))
  await listenWebSocket(wsPort, (stream) => void aedes.handle(stream as Parameters<typeof aedes.handle>[0]))
  announce()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
