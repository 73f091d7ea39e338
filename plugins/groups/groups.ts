/**
 * Groups: owns the methods group.*. A group's membership is changed by `system` entries of its own log, so that everybody hears
 * of a change at the same place in the conversation; who may change what is decided at that place too.
 */
import { randomUUID } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { type GroupState, isMember } from '../../broker/conversation.js'
import { refuse } from '../../broker/errors.js'
import { isKnown } from '../../broker/known-user.js'
import type { LogWriter } from '../../broker/log-writer.js'
import { idSchema } from '../../broker/payloads.js'
import { type Caller, method, type PluginFactory } from '../../broker/plugin.js'
import type { Directory, GroupRecord, LogEntry, MemberRecord, Role } from '../../broker/store/store.js'
import { groupConversation, groupOf, isGroup } from '../../broker/topics.js'
import { assertModerator, change, joined, left, roleOf } from './change.js'
import { decideDissolve, decideLeave, decideMute, decideRole, decideUpdate, type GroupChanges } from './decisions.js'
import { addedResult, createdResult, groupResult, membersResult, nothingResult, removedResult } from './results.js'

const strict = { additionalProperties: false }
const nameSchema = Type.String({ minLength: 1, maxLength: 128 })
const avatarSchema = Type.String({ maxLength: 2048 })
const announcementSchema = Type.String({ maxLength: 4096 })
const historySchema = Type.Enum(['join', 'all'])
const roleSchema = Type.Enum(['owner', 'admin', 'member'])
/** ms since 1970; so far away that nobody sees it. */
const forEver = Number.MAX_SAFE_INTEGER
const untilSchema = Type.Integer({ minimum: 0, maximum: forEver })
const membersPageMax = 1_000
const membersPageDefault = 500
const usersPerCallMax = 10_000
const usersSchema = Type.Array(idSchema, { minItems: 1, maxItems: usersPerCallMax })

export const createGroupSchema = Type.Object(
  {
    group: Type.Optional(idSchema),
    name: Type.Optional(nameSchema),
    members: Type.Optional(Type.Array(idSchema, { maxItems: usersPerCallMax })),
    max_members: Type.Optional(Type.Integer({ minimum: 1, maximum: usersPerCallMax })),
    history: Type.Optional(historySchema),
  },
  strict,
)

async function assertKnown(directory: Directory, users: readonly string[]): Promise<void> {
  const known = await Promise.all(users.map((user) => isKnown(directory, user)))
  const unknown = users.filter((_, index) => !known[index])
  if (unknown.length > 0) throw refuse('not_found', `no such user: ${unknown.slice(0, 10).join(', ')}${unknown.length > 10 ? ' …' : ''}`)
}

export interface GroupWorld {
  log: LogWriter
  directory: Directory
  membersMax: number
  now(): number
}

/** Creates a group with `owner`; also for the admin API. Throws `conflict` when the id is taken. */
export async function createGroup(
  world: GroupWorld,
  owner: string,
  params: Static<typeof createGroupSchema>,
): Promise<{ group: string; seq: number }> {
  const group = params.group ?? randomUUID().slice(0, 13)
  const membersMax = Math.min(params.max_members ?? world.membersMax, world.membersMax)
  const members = [...new Set([owner, ...(params.members ?? [])])]
  if (members.length > membersMax) throw refuse('invalid', `${members.length} members; at most ${membersMax} are allowed`)
  await assertKnown(world.directory, members)
  const entry = await change(world.log, group, owner, (state, seq) => {
    if (state !== undefined) throw refuse('conflict', `the group ${group} exists already`)
    const record: GroupRecord = { group, name: params.name ?? group, createdTs: world.now(), membersMax }
    if (params.history !== undefined) record.history = params.history as 'join' | 'all'
    const added = members.map((user) =>
      joined(group, { user, role: user === owner ? 'owner' : 'member', seq, before: undefined, history: undefined }),
    )
    return { body: { event: 'created', name: record.name, users: members }, effects: [{ kind: 'group', record }, ...added] }
  })
  return { group, seq: (entry as LogEntry).seq }
}

/** Who changes a group: one of its members, with what his role allows, or the operator by the admin API. */
export type Actor = { kind: 'member'; user: string } | { kind: 'operator' }

const nameOf = (actor: Actor): string => (actor.kind === 'member' ? actor.user : '')

function assertMayModerate(actor: Actor, state: GroupState | undefined, group: string): asserts state is GroupState {
  if (actor.kind === 'member') assertModerator(state, group, actor.user)
  else if (state === undefined) throw refuse('not_found', `there is no group ${group}`)
}

/** Adds users; those that are members already stay as they are. */
export async function addMembers(world: GroupWorld, actor: Actor, group: string, users: readonly string[]): Promise<string[]> {
  await assertKnown(world.directory, users)
  let added: string[] = []
  await change(world.log, group, nameOf(actor), (present, seq) => {
    assertMayModerate(actor, present, group)
    if (present.record.dissolved) throw refuse('not_found', `g/${group} was dissolved`)
    added = [...new Set(users)].filter((user) => !isMember(present, user))
    if (added.length === 0) return undefined
    const { membersMax } = present.record
    if (present.size + added.length > membersMax) {
      throw refuse('invalid', `the group has ${present.size} members; with ${added.length} more it would exceed its limit of ${membersMax}`)
    }
    const effects = added.map((user) =>
      joined(group, { user, role: 'member', seq, before: present.members.get(user), history: present.record.history }),
    )
    return { body: { event: 'added', users: added }, effects }
  })
  return added
}

/** Removes members; others are ignored. An admin removes members only, the owner everybody but himself. */
export async function removeMembers(world: GroupWorld, actor: Actor, group: string, users: readonly string[]): Promise<string[]> {
  let removed: string[] = []
  await change(world.log, group, nameOf(actor), (present, seq) => {
    assertMayModerate(actor, present, group)
    removed = [...new Set(users)].filter((user) => isMember(present, user))
    if (removed.length === 0) return undefined
    if (actor.kind === 'member') assertMayRemove(present, actor.user, removed)
    const effects = removed.map((user) => left(group, present.members.get(user) as MemberRecord, seq))
    return { body: { event: 'removed', users: removed }, effects }
  })
  return removed
}

function assertMayRemove(group: GroupState, actor: string, users: readonly string[]): void {
  if (users.includes(actor)) throw refuse('invalid', 'use group.leave to leave a group')
  if (roleOf(group, actor) === 'owner') return
  const higher = users.find((user) => roleOf(group, user) !== 'member')
  if (higher !== undefined) throw refuse('forbidden', `an admin cannot remove ${higher}, who is ${roleOf(group, higher)}`)
}

async function leaveAll({ log, directory }: GroupWorld, user: string): Promise<void> {
  for (const { conv } of await directory.conversationsOf(user)) {
    if (!isGroup(conv) || (await directory.member(groupOf(conv), user))?.role === undefined) continue
    await change(log, groupOf(conv), user, decideLeave(groupOf(conv), user))
  }
}

async function assertReader(directory: Directory, group: string, caller: Caller): Promise<GroupRecord> {
  const record = await directory.group(group)
  if (record === undefined) throw refuse('not_found', `there is no group ${group}`)
  if ((await directory.member(group, caller.user))?.role === undefined) throw refuse('forbidden', `you are not a member of g/${group}`)
  return record
}

const memberActor = ({ user }: Caller): Actor => ({ kind: 'member', user })

const presentMembers = async (directory: Directory, group: string): Promise<{ user: string; role: Role; muted_until?: number }[]> =>
  (await directory.members(group)).flatMap(({ user, role, mutedUntilTs }) =>
    role === undefined ? [] : [mutedUntilTs ? { user, role, muted_until: mutedUntilTs } : { user, role }],
  )

export const createGroups: PluginFactory = ({ log, store: { directory }, config, avatars }) => {
  const world: GroupWorld = { log, directory, membersMax: config.groupMembersMax, now: Date.now }
  const withUsers = Type.Object({ group: idSchema, users: usersSchema }, strict)
  const membersSchema = Type.Object(
    { group: idSchema, limit: Type.Optional(Type.Integer({ minimum: 1, maximum: membersPageMax })), cursor: Type.Optional(idSchema) },
    strict,
  )
  const onlyGroup = Type.Object({ group: idSchema }, strict)
  return {
    name: 'groups',
    eraseUser: (user) => leaveAll(world, user),
    methods: {
      'group.create': method(createGroupSchema, (caller, params) => createGroup(world, caller.user, params), createdResult),
      'group.add': method(
        withUsers,
        async (caller, { group, users }) => ({
          added: await addMembers(world, memberActor(caller), group, users),
        }),
        addedResult,
      ),
      'group.remove': method(
        withUsers,
        async (caller, { group, users }) => ({
          removed: await removeMembers(world, memberActor(caller), group, users),
        }),
        removedResult,
      ),
      'group.leave': method(
        onlyGroup,
        async ({ user }, { group }) => {
          await change(log, group, user, decideLeave(group, user))
          return {}
        },
        nothingResult,
      ),
      'group.role': method(
        Type.Object({ group: idSchema, user: idSchema, role: roleSchema }, strict),
        async (caller, { group, user, role }) => {
          await change(log, group, caller.user, decideRole(group, caller.user, user, role as Role))
          return {}
        },
        nothingResult,
      ),
      'group.update': method(
        Type.Object(
          {
            group: idSchema,
            name: Type.Optional(nameSchema),
            avatar_url: Type.Optional(avatarSchema),
            announcement: Type.Optional(announcementSchema),
            history: Type.Optional(historySchema),
          },
          strict,
        ),
        async ({ user }, { group, ...changes }) => {
          if (changes.avatar_url !== undefined) await avatars.prepare(user, groupConversation(group), changes.avatar_url)
          await change(log, group, user, decideUpdate(group, user, changes as GroupChanges))
          return {}
        },
        nothingResult,
      ),
      'group.mute': method(
        Type.Object({ group: idSchema, user: Type.Optional(idSchema), until: Type.Optional(untilSchema) }, strict),
        async (caller, { group, user, until = forEver }) => {
          await change(log, group, caller.user, decideMute(group, caller.user, user, until))
          return {}
        },
        nothingResult,
      ),
      'group.dissolve': method(
        onlyGroup,
        async ({ user }, { group }) => {
          await change(log, group, user, decideDissolve(group, user))
          return {}
        },
        nothingResult,
      ),
      'group.get': method(
        onlyGroup,
        async (caller, { group }) => {
          const {
            name,
            createdTs,
            membersMax,
            avatar_url,
            announcement,
            history = 'join',
            mutedUntilTs,
          } = await assertReader(directory, group, caller)
          const members = await presentMembers(directory, group)
          const owner = members.find(({ role }) => role === 'owner')?.user
          const muted_until = mutedUntilTs || undefined
          const said = { group, name, avatar_url, announcement, history, muted_until, owner }
          return { ...said, members: members.length, max_members: membersMax, created_ts: createdTs }
        },
        groupResult,
      ),
      'group.members': method(
        membersSchema,
        async (caller, { group, limit = membersPageDefault, cursor }) => {
          await assertReader(directory, group, caller)
          const all = (await presentMembers(directory, group)).sort((a, b) => (a.user < b.user ? -1 : 1))
          const rest = cursor === undefined ? all : all.filter(({ user }) => user > cursor)
          const members = rest.slice(0, limit)
          return rest.length > limit ? { members, next: members.at(-1)?.user } : { members }
        },
        membersResult,
      ),
    },
  }
}
