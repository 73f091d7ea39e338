/** Parley with the profile of conformance suites: clients without credentials, and all application topics open but one. */
import type { Test } from 'tap'
import { createServer, type Server } from '../../broker/server.js'

export async function startOpenServer(t: Test): Promise<Server> {
  const server = await createServer({
    host: '127.0.0.1',
    mqttPort: 0,
    httpPort: 0,
    dataDir: t.testdir(),
    anonymous: true,
    topics: [
      { topic: 'test/nosubscribe', publish: true },
      { topic: '#', publish: true, subscribe: true },
    ],
    rateLimit: undefined,
    logLevel: 'silent',
  })
  t.teardown(() => server.close())
  return server
}
