/** A service that a test needs beside Parley: the one that a variable names, or a process of its own that goes with the test; otherwise the test is skipped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import type { Test } from 'tap'

/** The path of the first of these programs that is installed. */
export function findProgram(...names: string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/bin', '/usr/bin', '/usr/sbin']
  for (const name of names) {
    for (const folder of folders) {
      try {
        accessSync(join(folder, name), constants.X_OK)
        return join(folder, name)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
      }
    }
  }
  return undefined
}

/** Says why tests are skipped, or fails when PARLEY_TEST_REQUIRE has `service`. */
export function skipWithout(t: Test, service: string, why: string): undefined {
  if ((process.env.PARLEY_TEST_REQUIRE ?? '').split(',').includes(service)) t.fail(why)
  else t.comment(`SKIPPED: ${why}`)
  return undefined
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A process that is killed with its test, or with this process. */
export function spawnFor(t: Test, program: string, args: readonly string[]): ChildProcess {
  const child = spawn(program, args, { stdio: 'ignore' })
  const kill = (): void => void child.kill('SIGKILL')
  process.once('exit', kill)
  t.teardown(async () => {
    process.removeListener('exit', kill)
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    kill()
    await exited
  })
  return child
}
