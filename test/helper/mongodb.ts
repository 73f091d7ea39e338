/** A MongoDB-compatible server: PARLEY_TEST_MONGODB_URL, else `mongod` or `ferretdb` (on SQLite) of PATH with a temporary directory. */
import { randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import { MongoClient } from 'mongodb'
import type { Test } from 'tap'
import { eventually } from './eventually.js'
import { newDir } from './new-dir.js'
import { findProgram, freePort, skipWithout, spawnFor } from './own-service.js'

/** The server's URL without a database; undefined after saying why there is none. */
export async function startMongodb(t: Test): Promise<string | undefined> {
  const given = process.env.PARLEY_TEST_MONGODB_URL
  if (given !== undefined) return given.replace(/\/$/, '')
  const program = findProgram('mongod', 'ferretdb')
  if (program === undefined) return skipWithout(t, 'mongodb', 'needs PARLEY_TEST_MONGODB_URL, or mongod or ferretdb in PATH')
  const dir = await newDir(t)
  const port = await freePort()
  spawnFor(t, program, basename(program) === 'mongod' ? mongodArgs(dir, port) : ferretdbArgs(dir, port))
  const url = `mongodb://127.0.0.1:${port}`
  await eventually(() => answers(url), { timeoutMs: 30_000, everyMs: 100, what: `${program} answers` })
  return url
}

/** Of a database that nobody else has. */
export const newDatabase = (url: string): string => `${url}/parley_test_${randomUUID().replaceAll('-', '')}`

const mongodArgs = (dir: string, port: number): string[] => ['--dbpath', dir, '--port', String(port), '--bind_ip', '127.0.0.1']

const ferretdbArgs = (dir: string, port: number): string[] => [
  '--handler=sqlite',
  // What a process has written survives its kill -9, synchronised or not; FerretDB takes four times as much without.
  `--sqlite-url=file:${dir}/?_pragma=synchronous(off)`,
  `--listen-addr=127.0.0.1:${port}`,
  '--debug-addr=-',
  '--telemetry=disable',
  `--state-dir=${dir}`,
]

async function answers(url: string): Promise<boolean> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 500 })
  try {
    await client.db('admin').command({ ping: 1 })
    return true
  } finally {
    await client.close()
  }
}
