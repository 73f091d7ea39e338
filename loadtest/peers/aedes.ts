/** Yardstick: plain Aedes with everything in memory and the concurrency of its emitter raised, as a process of its own. */
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const aedes = await Aedes.createBroker({ concurrency: 100_000 })
const server = createServer({ noDelay: true }, (socket) => {
  aedes.handle(socket)
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address !== null && typeof address === 'object') process.send?.(address.port)
})
process.on('SIGTERM', () => process.exit())
process.on('disconnect', () => process.exit())
