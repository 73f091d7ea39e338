/** The key with which the nodes of a cluster sign what they tell each other: made by the first of them, kept in the store. */
import { randomBytes } from 'node:crypto'
import type { KeyValueStore } from '../store/store.js'

const name = 'cluster/key'
const keyBytes = 32

export async function clusterKey(records: KeyValueStore): Promise<Buffer> {
  await records.add(name, randomBytes(keyBytes))
  const key = await records.get(name)
  if (key === undefined) throw new Error('the key of the cluster is not in the store')
  return key
}
