/**
 * Whose copy a store is: before anything is written the target is claimed for its source, so that a copy that was cut off can go on and
 * nobody else's content is ever mixed with it; when all was compared the copy is declared whole. A server does not start on half a copy.
 */
import { randomUUID } from 'node:crypto'
import { OperatorError } from '../operator-error.js'
import type { Store } from '../store/store.js'
import { kinds, ownPrefix } from './kinds.js'

const sourceKey = `${ownPrefix}source`
const claimKey = `${ownPrefix}copy`

interface Claim {
  /** Name of the source, made up once for each. */
  source: string
  /** When it was whole, ms since 1970. */
  wholeTs?: number
}

async function claimOf({ records }: Store): Promise<Claim | undefined> {
  const found = await records.get(claimKey)
  return found === undefined ? undefined : (JSON.parse(found.toString()) as Claim)
}

const putClaim = ({ records }: Store, claim: Claim): Promise<void> => records.put(claimKey, Buffer.from(JSON.stringify(claim)))

async function nameOf({ records }: Store): Promise<string> {
  const found = await records.get(sourceKey)
  if (found !== undefined) return found.toString()
  const name = randomUUID()
  await records.put(sourceKey, Buffer.from(name))
  return name
}

/** True if a copy goes on that was begun before. Throws an OperatorError when the target is not this source's to write. */
export async function claim(source: Store, target: Store): Promise<boolean> {
  const found = await claimOf(target)
  const name = await nameOf(source)
  if (found === undefined) {
    const what = await firstContent(target)
    if (what !== undefined) throw new OperatorError(`the target holds ${what} already: it must be empty. Name another database`)
    await putClaim(target, { source: name })
    return false
  }
  if (found.source !== name) throw new OperatorError('the target holds the copy of another data directory: name another database')
  if (found.wholeTs === undefined) return true
  throw new OperatorError(
    `the target holds a copy of this data directory, whole since ${new Date(found.wholeTs).toISOString()}: nothing is left to do. To copy again, name another database`,
  )
}

async function firstContent(store: Store): Promise<string | undefined> {
  for await (const conv of store.log.conversations()) return `conversations (${conv})`
  for (const { name, first } of kinds) {
    const key = await first(store)
    if (key !== undefined) return `${name} (${key})`
  }
  return undefined
}

export async function declareWhole(target: Store, wholeTs: number): Promise<void> {
  await putClaim(target, { ...((await claimOf(target)) as Claim), wholeTs })
}

/** To be asked before a server uses a store. */
export async function assertWhole(store: Store): Promise<void> {
  const found = await claimOf(store)
  if (found !== undefined && found.wholeTs === undefined) {
    throw new OperatorError(
      'the database holds an unfinished copy of a data directory: run parley migrate again until it says that all is copied',
    )
  }
}
