/**
 * Groups: owns the methods group.*. A group's membership is changed by `system` entries of its own log, so that everybody hears
 * of a change at the same place in the conversation; who may change what is decided at that place too.
 */
import { randomUUID } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { type Conversation, type GroupState, isMember } from '../broker/conversation.js'
import { Refusal, refuse } from '../broker/errors.js'
import type { LogWriter, Operation, Plan } from '../broker/log-writer.js'
import { idSchema } from '../broker/payloads.js'
import { type Caller, method, type PluginFactory } from '../broker/plugin.js'
import type { Directory, Effect, GroupRecord, LogEntry, MemberRecord, Role } from '../broker/store/store.js'
import { type ConversationId, groupConversation } from '../broker/topics.js'

const strict = { additionalProperties: false }
const nameSchema = Type.String({ minLength: 1, maxLength: 128 })
const avatarSchema = Type.String({ maxLength: 2048 })
const roleSchema = Type.Enum(['owner', 'admin', 'member'])
const usersPerCallMax = 10_000
const usersSchema = Type.Array(idSchema, { minItems: 1, maxItems: usersPerCallMax })

export const createGroupSchema = Type.Object(
  {
    group: Type.Optional(idSchema),
    name: Type.Optional(nameSchema),
    members: Type.Optional(Type.Array(idSchema, { maxItems: usersPerCallMax })),
    max_members: Type.Optional(Type.Integer({ minimum: 1, maximum: usersPerCallMax })),
  },
  strict,
)

/** What a change says in its entry and does to the group. */
interface Change {
  body: Record<string, unknown>
  effects: Effect[]
}

/** Decides on a change; `seq` is that of its entry. undefined: there is nothing to change. Throws a Refusal. */
type Decide = (group: GroupState | undefined, seq: number) => Change | undefined

class GroupOperation implements Operation {
  readonly device = ''
  readonly id = `sys-${randomUUID()}`
  readonly content = undefined
  readonly retransmit = undefined
  readonly isRetry = false
  readonly target = undefined
  #isUnchanged = false

  constructor(
    readonly conv: ConversationId,
    readonly from: string,
    readonly decide: Decide,
    readonly resolve: (entry: LogEntry | undefined) => void,
    readonly reject: (error: Refusal) => void,
  ) {}

  plan(state: Conversation, seq: number): Plan | Refusal {
    try {
      const change = this.decide(state.group, seq)
      if (change !== undefined) {
        const tail = `"from":"${this.from}","group":"${this.conv.slice(2)}","id":"${this.id}","type":"system","body":${JSON.stringify(change.body)}`
        return { tail: Buffer.from(tail), effects: change.effects }
      }
      this.#isUnchanged = true
      return refuse('conflict', 'nothing to change')
    } catch (error) {
      if (error instanceof Refusal) return error
      throw error
    }
  }

  stored(entry: LogEntry): void {
    this.resolve(entry)
  }

  duplicate(entry: LogEntry): void {
    this.resolve(entry)
  }

  refused(error: Refusal): void {
    if (this.#isUnchanged) this.resolve(undefined)
    else this.reject(error)
  }

  failed(why: string): void {
    this.reject(refuse('unavailable', why))
  }
}

/** Resolves when the change is durable; undefined when there was nothing to change. */
function change(log: LogWriter, group: string, actor: string, decide: Decide): Promise<LogEntry | undefined> {
  return new Promise((resolve, reject) => log.submit(new GroupOperation(groupConversation(group), actor, decide, resolve, reject), 1_024))
}

const roleOf = (group: GroupState, user: string): Role | undefined => group.members.get(user)?.role

/** An outsider is told that he may not, a member of nothing that there is nothing. */
function assertMember(group: GroupState | undefined, name: string, user: string): asserts group is GroupState {
  if (group === undefined) throw refuse('not_found', `there is no group ${name}`)
  if (!isMember(group, user)) throw refuse('forbidden', `you are not a member of g/${name}`)
}

function assertModerator(group: GroupState | undefined, name: string, user: string): asserts group is GroupState {
  assertMember(group, name, user)
  if (roleOf(group, user) === 'member') throw refuse('forbidden', 'only the owner and admins of the group may do this')
}

function memberEffect(group: string, record: MemberRecord): Effect {
  return { kind: 'member', group, record }
}

const joined = (group: string, user: string, role: Role, seq: number, before: MemberRecord | undefined): Effect =>
  memberEffect(group, { user, role, spans: [...(before?.spans ?? []), { from: seq }] })

/** The last entry that a former member may see is the one that says so. */
function left(group: string, record: MemberRecord, seq: number): Effect {
  const spans = record.spans.map((span) => (span.to === undefined ? { ...span, to: seq } : span))
  return memberEffect(group, { user: record.user, role: undefined, spans })
}

async function assertKnown(directory: Directory, users: readonly string[]): Promise<void> {
  const records = await Promise.all(users.map((user) => directory.user(user)))
  const unknown = users.filter((_, index) => records[index] === undefined)
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
    const added = members.map((user) => joined(group, user, user === owner ? 'owner' : 'member', seq, undefined))
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
    const effects = added.map((user) => joined(group, user, 'member', seq, present.members.get(user)))
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

/** When the owner leaves, the first admin, else the first member, takes over; the last one leaves an empty group. */
function decideLeave(group: string, user: string): Decide {
  return (state, seq) => {
    assertMember(state, group, user)
    const effects = [left(group, state.members.get(user) as MemberRecord, seq)]
    const body: Change['body'] = { event: 'left', users: [user] }
    if (roleOf(state, user) === 'owner') {
      const others = [...state.members.values()].filter((member) => member.role !== undefined && member.user !== user)
      const heir = others.find((member) => member.role === 'admin') ?? others.sort((a, b) => firstSeq(a) - firstSeq(b))[0]
      if (heir !== undefined) {
        effects.push(memberEffect(group, { ...heir, role: 'owner' }))
        body.owner = heir.user
      }
    }
    return { body, effects }
  }
}

const firstSeq = (member: MemberRecord): number => member.spans.at(-1)?.from ?? 0

function decideRole(group: string, actor: string, user: string, role: Role): Decide {
  return (state) => {
    assertMember(state, group, actor)
    if (roleOf(state, actor) !== 'owner') throw refuse('forbidden', 'only the owner gives roles')
    const record = state.members.get(user)
    if (record?.role === undefined) throw refuse('not_found', `${user} is not a member of g/${group}`)
    if (record.role === role) return undefined
    if (user === actor) throw refuse('invalid', 'to give up the group, make another member its owner')
    const effects = [memberEffect(group, { ...record, role })]
    if (role === 'owner') effects.push(memberEffect(group, { ...(state.members.get(actor) as MemberRecord), role: 'admin' }))
    return { body: { event: 'role', user, role }, effects }
  }
}

function decideUpdate(group: string, actor: string, changes: { name?: string; avatar_url?: string }): Decide {
  return (state) => {
    assertModerator(state, group, actor)
    if (Object.keys(changes).length === 0) return undefined
    return { body: { event: 'updated', ...changes }, effects: [{ kind: 'group', record: { ...state.record, ...changes } }] }
  }
}

function decideDissolve(group: string, actor: string): Decide {
  return (state, seq) => {
    assertMember(state, group, actor)
    if (roleOf(state, actor) !== 'owner') throw refuse('forbidden', 'only the owner may dissolve the group')
    const present = [...state.members.values()].filter((member) => member.role !== undefined)
    const effects: Effect[] = [{ kind: 'group', record: { ...state.record, dissolved: true } }]
    for (const member of present) effects.push(left(group, member, seq))
    return { body: { event: 'dissolved' }, effects }
  }
}

async function assertReader(directory: Directory, group: string, caller: Caller): Promise<GroupRecord> {
  const record = await directory.group(group)
  if (record === undefined) throw refuse('not_found', `there is no group ${group}`)
  if ((await directory.member(group, caller.user))?.role === undefined) throw refuse('forbidden', `you are not a member of g/${group}`)
  return record
}

const memberActor = ({ user }: Caller): Actor => ({ kind: 'member', user })

const presentMembers = async (directory: Directory, group: string): Promise<{ user: string; role: Role }[]> =>
  (await directory.members(group)).flatMap(({ user, role }) => (role === undefined ? [] : [{ user, role }]))

export const createGroups: PluginFactory = ({ log, store: { directory }, config }) => {
  const world: GroupWorld = { log, directory, membersMax: config.groupMembersMax, now: Date.now }
  const withUsers = Type.Object({ group: idSchema, users: usersSchema }, strict)
  const onlyGroup = Type.Object({ group: idSchema }, strict)
  return {
    name: 'groups',
    methods: {
      'group.create': method(createGroupSchema, (caller, params) => createGroup(world, caller.user, params)),
      'group.add': method(withUsers, async (caller, { group, users }) => ({
        added: await addMembers(world, memberActor(caller), group, users),
      })),
      'group.remove': method(withUsers, async (caller, { group, users }) => ({
        removed: await removeMembers(world, memberActor(caller), group, users),
      })),
      'group.leave': method(onlyGroup, async ({ user }, { group }) => {
        await change(log, group, user, decideLeave(group, user))
        return {}
      }),
      'group.role': method(
        Type.Object({ group: idSchema, user: idSchema, role: roleSchema }, strict),
        async (caller, { group, user, role }) => {
          await change(log, group, caller.user, decideRole(group, caller.user, user, role as Role))
          return {}
        },
      ),
      'group.update': method(
        Type.Object({ group: idSchema, name: Type.Optional(nameSchema), avatar_url: Type.Optional(avatarSchema) }, strict),
        async ({ user }, { group, ...changes }) => {
          await change(log, group, user, decideUpdate(group, user, changes))
          return {}
        },
      ),
      'group.dissolve': method(onlyGroup, async ({ user }, { group }) => {
        await change(log, group, user, decideDissolve(group, user))
        return {}
      }),
      'group.get': method(onlyGroup, async (caller, { group }) => {
        const { name, createdTs, membersMax, avatar_url } = await assertReader(directory, group, caller)
        const members = await presentMembers(directory, group)
        const owner = members.find(({ role }) => role === 'owner')?.user
        return { group, name, avatar_url, owner, members: members.length, max_members: membersMax, created_ts: createdTs }
      }),
      'group.members': method(onlyGroup, async (caller, { group }) => {
        await assertReader(directory, group, caller)
        return { members: await presentMembers(directory, group) }
      }),
    },
  }
}
