/**
 * Ends the process on an exception that nobody has caught. Node joins its threads before it exits, and one of LMDB's may wait for this one for
 * ever: such a process neither served nor ended. So it ends as by kill -9, which loses nothing. Called by `parley start`.
 */
import { writeSync } from 'node:fs'

const stderr = 2

export function endOnFault(): void {
  process.on('uncaughtExceptionMonitor', (error) => {
    writeSync(stderr, `${error.stack ?? error}\n`)
    process.kill(process.pid, 'SIGKILL')
  })
}
