/**
 * The admin API under /v1/admin, for the application's own backend: users, groups, members, tokens, sessions. Every call needs a
 * token whose scope is `admin`; http.ts has checked that.
 */
import type { Readable } from 'node:stream'
import { type Static, type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { ensureUser } from './admission.js'
import type { Config } from './config.js'
import { endSessions } from './end-sessions.js'
import { refuse } from './errors.js'
import type { Forgetting } from './forget.js'
import type { Hub } from './hub.js'
import { isKnown } from './known-user.js'
import { idSchema } from './payloads.js'
import { describeFault } from './plugin-host.js'
import type { Store } from './store/store.js'
import { mintToken } from './token.js'
import { idRule, isId } from './topics.js'

export interface AdminCall {
  method: 'GET' | 'POST' | 'DELETE'
  path: string
  /** Of the body. */
  schema: TSchema
  result: TSchema
  handle(params: Record<string, string>, body: unknown): Promise<object>
}

export interface AdminApi {
  calls: readonly AdminCall[]
}

/** What the groups plugin does for the admin API. */
export interface AdminGroups {
  create(owner: string, params: { group?: string; name?: string; members?: string[]; max_members?: number }): Promise<object>
  add(group: string, users: readonly string[]): Promise<string[]>
  remove(group: string, users: readonly string[]): Promise<string[]>
}

export interface AdminWorld {
  config: Config
  hub: Hub
  store: Store
  groups: AdminGroups
  forget: Forgetting
  erase(user: string): Promise<{ user: string; done: boolean }>
  exportUser(user: string): Promise<Readable>
  now(): number
}

const strict = { additionalProperties: false }
const usersMax = 10_000
const ttlSecondsMax = 365 * 86_400
const ttlSecondsDefault = 86_400

const usersSchema = Type.Object({ users: Type.Array(idSchema, { minItems: 1, maxItems: usersMax }) }, strict)
const newUsersSchema = Type.Union([Type.Object({ user: idSchema }, strict), usersSchema])
const groupSchema = Type.Object(
  {
    owner: idSchema,
    group: Type.Optional(idSchema),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    members: Type.Optional(Type.Array(idSchema, { maxItems: usersMax })),
    max_members: Type.Optional(Type.Integer({ minimum: 1, maximum: usersMax })),
  },
  strict,
)
const tokenSchema = Type.Object(
  { user: idSchema, ttl_seconds: Type.Optional(Type.Integer({ minimum: 1, maximum: ttlSecondsMax })) },
  strict,
)
const sessionsSchema = Type.Object({ revoke: Type.Optional(Type.Boolean()) }, strict)

const mintedSchema = Type.Object({ user: idSchema, token: Type.String(), expires_ts: Type.Integer() })
const emptySchema = Type.Object({}, strict)
const erasedSchema = Type.Object({ user: idSchema, done: Type.Boolean() })
const endedSchema = Type.Object({ ended: Type.Integer(), revoked: Type.Boolean() })

function call<S extends TSchema>(
  method: AdminCall['method'],
  path: string,
  schema: S,
  result: TSchema,
  handle: (params: Record<string, string>, body: Static<S>) => Promise<object>,
): AdminCall {
  const validator = Compile(schema)
  return {
    method,
    path,
    schema,
    result,
    handle: (params, body) => {
      const id = params.id
      if (id !== undefined && !isId(id)) throw refuse('invalid', `an id is ${idRule}`)
      if (!validator.Check(body)) throw refuse('invalid', describeFault(validator, body))
      return handle(params, body as Static<S>)
    },
  }
}

export function createAdminApi(world: AdminWorld): AdminApi {
  const { config, store, groups, now } = world
  const ensureNew = async (user: string): Promise<void> => {
    await ensureUser(store, { user })
    if (!(await isKnown(store.directory, user))) throw refuse('conflict', `the user ${user} was erased: an id is not used again`)
  }
  return {
    calls: [
      call('POST', '/users', newUsersSchema, usersSchema, async (_params, body) => {
        const users = 'user' in body ? [body.user] : body.users
        await Promise.all(users.map((user) => ensureNew(user)))
        return { users }
      }),
      call('POST', '/groups', groupSchema, Type.Object({ group: idSchema, seq: Type.Integer() }), (_params, { owner, ...params }) =>
        groups.create(owner, params),
      ),
      call('POST', '/groups/:id/members', usersSchema, Type.Object({ added: Type.Array(idSchema) }), async ({ id }, { users }) => ({
        added: await groups.add(id as string, users),
      })),
      call('DELETE', '/groups/:id/members', usersSchema, Type.Object({ removed: Type.Array(idSchema) }), async ({ id }, { users }) => ({
        removed: await groups.remove(id as string, users),
      })),
      call('POST', '/tokens', tokenSchema, mintedSchema, async (_params, { user, ttl_seconds: expiresInSeconds = ttlSecondsDefault }) => {
        if (config.jwtSecret === undefined) throw refuse('forbidden', 'tokens come from your issuer: Parley has no key to sign one with')
        await ensureNew(user)
        const { jwtIssuer: issuer, jwtAudience: audience } = config
        return {
          user,
          token: await mintToken({ secret: config.jwtSecret, user, expiresInSeconds, issuer, audience }),
          expires_ts: now() + expiresInSeconds * 1000,
        }
      }),
      call('DELETE', '/users/:id/sessions', sessionsSchema, endedSchema, async ({ id }, { revoke = false }) => {
        const user = id as string
        const record = await store.directory.user(user)
        if (record === undefined) throw refuse('not_found', `there is no user ${user}`)
        // Tokens of this very second are revoked too: what was issued before cannot be told from what comes after.
        if (revoke) await store.directory.putUser({ ...record, tokensFrom: Math.floor(now() / 1000) + 1 })
        return { ended: await endSessions(world, user), revoked: revoke }
      }),
      call('DELETE', '/users/:id', emptySchema, erasedSchema, ({ id }) => world.erase(id as string)),
      call('GET', '/users/:id/export', emptySchema, Type.String({ description: 'lines of JSON' }), ({ id }) =>
        world.exportUser(id as string),
      ),
    ],
  }
}
