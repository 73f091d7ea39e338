/** A bucket of a real S3 server: `versitygw` of PATH, on a temporary directory. It holds signatures, hashes and lengths to what S3 demands. */
import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { ServerOptions } from '../../broker/index.js'
import { eventually } from './eventually.js'
import { filesOf } from './files-of.js'
import { newDir } from './new-dir.js'
import { findProgram, freePort, skipWithout, spawnFor } from './own-service.js'

export interface Gateway {
  settings: ServerOptions
  /** The files in which its objects are. */
  readonly objects: { readonly size: number }
}

/** undefined after saying why there is none. */
export async function openGateway(t: Test): Promise<Gateway | undefined> {
  const program = findProgram('versitygw')
  if (program === undefined) return skipWithout(t, 's3', 'a real S3 server needs versitygw in PATH; a stand-in takes its place')
  const [dir, port] = [await newDir(t), await freePort()]
  const [root, sidecar] = [join(dir, 'root'), join(dir, 'sidecar')]
  for (const folder of [root, sidecar, join(root, 'pictures')]) mkdirSync(folder, { recursive: true })
  const [keyId, secret] = ['AKIATEST', randomUUID()]
  // Not every file system of a test has extended attributes.
  const args = ['--access', keyId, '--secret', secret, '--port', `127.0.0.1:${port}`, '--region', 'eu-test-1', '--quiet']
  spawnFor(t, program, [...args, 'posix', '--sidecar', sidecar, root])
  await eventually(async () => (await fetch(`http://127.0.0.1:${port}/`)).status < 500, { timeoutMs: 20_000, what: 'versitygw answers' })
  return {
    settings: {
      mediaS3Endpoint: `http://127.0.0.1:${port}`,
      mediaS3Bucket: 'pictures',
      mediaS3Region: 'eu-test-1',
      mediaS3KeyId: keyId,
      mediaS3Secret: secret,
    },
    objects: {
      get size() {
        return filesOf(join(root, 'pictures'), '/media/').length
      },
    },
  }
}
