/** Reads a range of a table page by page: an iteration never holds a snapshot while its caller waits, nor others up for more than a page. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Environment, Table } from './environment.js'

export const pageMax = 256

/** All rows from `start` on whose key is below `end`, in key order; those that come or go meanwhile may be among them. */
export async function* rowsOf(
  environment: Environment,
  table: Table,
  { start, end }: { start: Buffer; end?: Buffer },
): AsyncGenerator<{ key: Buffer; value: Buffer }> {
  let after: Buffer | undefined
  for (;;) {
    environment.assertOpen()
    const range = { start: after ?? start, exclusiveStart: after !== undefined, limit: pageMax, ...(end && { end }) }
    const page = [...table.getRange(range)]
    yield* page
    after = page.at(-1)?.key
    if (page.length < pageMax) return
    await nextTurn()
  }
}

/** Below every key. */
export const lowest = Buffer.of(0)
