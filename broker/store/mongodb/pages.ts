/** Goes over a collection by name, page by page, so that no cursor times out while its caller is busy with what it was given. */
import type { Collection, Document, Filter } from 'mongodb'
import type { MongodbServer } from './server.js'

const pageMax = 256

export async function* inOrder<T extends { _id: string }>(
  server: MongodbServer,
  collection: Collection<T>,
  projection: Document = {},
  after = '',
  only: Document = {},
): AsyncGenerator<T> {
  for (let last = after; ; ) {
    const filter = { ...only, _id: { $gt: last } } as unknown as Filter<T>
    const page = (await server.run(() => collection.find(filter, { sort: { _id: 1 }, limit: pageMax, projection }).toArray())) as T[]
    yield* page
    if (page.length < pageMax) return
    last = (page.at(-1) as T)._id
  }
}
