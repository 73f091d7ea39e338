/** Lists of people by pages, in the order of their ids; `next` of a page is the `cursor` of the one behind it. */
import { Type } from 'typebox'
import { refuse } from '../../broker/errors.js'
import { idSchema } from '../../broker/payloads.js'

/** Friends and requests of one user, and as many blocks. */
const rowsMax = 5_000
const pageMax = 1_000
const pageDefault = 200

export const pageSchema = Type.Object(
  { limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageMax })), cursor: Type.Optional(idSchema) },
  { additionalProperties: false },
)

export async function pageOf<Row extends { user: string }>(
  rows: AsyncIterable<Row>,
  { limit = pageDefault, cursor }: { limit?: number; cursor?: string },
): Promise<{ page: Row[]; next?: string }> {
  const page: Row[] = []
  for await (const row of rows) {
    if (cursor !== undefined && row.user <= cursor) continue
    if (page.length === limit) return { page, next: (page.at(-1) as Row).user }
    page.push(row)
  }
  return { page }
}

/** Throws when there are as many as there may be. */
export async function assertRoom(rows: AsyncIterable<object>, what: string): Promise<void> {
  let count = 0
  for await (const _row of rows) if (++count >= rowsMax) throw refuse('forbidden', `you have ${rowsMax} ${what}, which is the most`)
}
