/** Yardstick: plain Aedes with everything in memory and the concurrency of its emitter raised, as a process of its own. */
import { Aedes } from 'aedes'
import { announce, listenTcp, listenWebSocket, portArguments } from './listen.js'

const [tcpPort, wsPort] = portArguments()
const aedes = await Aedes.createBroker({ concurrency: 100_000 })
await listenTcp(tcpPort, (socket) => void aedes.handle(socket))
await listenWebSocket(wsPort, (stream) => void aedes.handle(stream as Parameters<typeof aedes.handle>[0]))
announce()
