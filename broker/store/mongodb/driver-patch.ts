/**
 * A fault of the official driver, mended where it is imported. A command that a socket does not take at once waits for its 'drain', and so
 * does one for a socket that has ended and not yet said so; a socket that closes without an error emits none. Such a command never ends,
 * whatever its timeouts; when it is the `hello` of the monitor, which asks in just that moment because other connections have ended too, the
 * client never finds the server again. Here a connection that has been cleaned up wakes who waits, and he finds its error. Seen with 6.22.0;
 * 7.9.0 has the same lines.
 */
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'

interface DriverConnection {
  socket: Socket
  cleanup(error: Error): void
}

const { Connection } = createRequire(import.meta.url)('mongodb/lib/cmap/connection.js') as { Connection: { prototype: DriverConnection } }
const { cleanup } = Connection.prototype
if (typeof cleanup !== 'function') throw new Error('driver-patch.ts does not fit the installed version of mongodb')

Connection.prototype.cleanup = function (error) {
  cleanup.call(this, error)
  this.socket.emit('drain')
}
