/** What the methods of groups answer, for the OpenAPI document. */
import { Type } from 'typebox'
import { idSchema, seqSchema } from '../../broker/payloads.js'

const timeSchema = Type.Integer({ minimum: 0 })
const usersSchema = Type.Array(idSchema)

export const nothingResult = Type.Object({})
export const createdResult = Type.Object({ group: idSchema, seq: seqSchema })
export const addedResult = Type.Object({ added: usersSchema })
export const removedResult = Type.Object({ removed: usersSchema })

export const groupResult = Type.Object({
  group: idSchema,
  name: Type.String(),
  avatar_url: Type.Optional(Type.String()),
  announcement: Type.Optional(Type.String()),
  history: Type.Enum(['join', 'all']),
  muted_until: Type.Optional(timeSchema),
  owner: Type.Optional(idSchema),
  members: Type.Integer({ minimum: 0 }),
  max_members: Type.Integer({ minimum: 1 }),
  created_ts: timeSchema,
})

export const membersResult = Type.Object({
  members: Type.Array(
    Type.Object({ user: idSchema, role: Type.Enum(['owner', 'admin', 'member']), muted_until: Type.Optional(timeSchema) }),
  ),
  next: Type.Optional(idSchema),
})
