/** What the methods of people answer, for the OpenAPI document. */
import { Type } from 'typebox'
import { idSchema } from '../../broker/payloads.js'

const timeSchema = Type.Integer({ minimum: 0 })
const stateSchema = Type.Enum(['requested', 'received', 'friend'])

export const nothingResult = Type.Object({})
export const stateResult = Type.Object({ state: stateSchema })
export const removedResult = Type.Object({ removed: Type.Boolean() })

export const friendsResult = Type.Object({
  friends: Type.Array(Type.Object({ user: idSchema, state: stateSchema, ts: timeSchema })),
  next: Type.Optional(idSchema),
})

export const blocksResult = Type.Object({
  blocks: Type.Array(Type.Object({ user: idSchema, ts: timeSchema })),
  next: Type.Optional(idSchema),
})

export const profileResult = Type.Object({
  user: idSchema,
  name: Type.Optional(Type.String()),
  avatar_url: Type.Optional(Type.String()),
  status: Type.Optional(Type.Enum(['available', 'busy'])),
})
