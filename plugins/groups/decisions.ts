/** What members may change of their group: leaving, roles, what it is called and says, who is muted, its end. Decided at the head of the log. */
import { isMember } from '../../broker/conversation.js'
import { refuse } from '../../broker/errors.js'
import type { Effect, GroupRecord, MemberRecord, Role } from '../../broker/store/store.js'
import { assertMember, assertModerator, type Change, type Decide, left, memberEffect, roleOf } from './change.js'

/** When the owner leaves, the first admin, else the first member, takes over; the last one leaves an empty group. */
export function decideLeave(group: string, user: string): Decide {
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

export function decideRole(group: string, actor: string, user: string, role: Role): Decide {
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

/** What `group.update` may set. */
export type GroupChanges = Partial<Pick<GroupRecord, 'name' | 'avatar_url' | 'announcement' | 'history'>>

export function decideUpdate(group: string, actor: string, changes: GroupChanges): Decide {
  return (state) => {
    assertModerator(state, group, actor)
    if (Object.keys(changes).length === 0) return undefined
    return { body: { event: 'updated', ...changes }, effects: [{ kind: 'group', record: { ...state.record, ...changes } }] }
  }
}

/** `untilTs` 0 lifts it. Owner and admins cannot be muted. */
export function decideMute(group: string, actor: string, user: string | undefined, untilTs: number): Decide {
  return (state) => {
    assertModerator(state, group, actor)
    const event = untilTs === 0 ? 'unmuted' : 'muted'
    const until = untilTs === 0 ? {} : { until: untilTs }
    if (user === undefined) {
      if ((state.record.mutedUntilTs ?? 0) === untilTs) return undefined
      return { body: { event, ...until }, effects: [{ kind: 'group', record: { ...state.record, mutedUntilTs: untilTs } }] }
    }
    const record = state.members.get(user)
    if (record === undefined || !isMember(state, user)) throw refuse('not_found', `${user} is not a member of g/${group}`)
    if (record.role !== 'member' && untilTs !== 0) throw refuse('forbidden', `${user} is ${record.role}: only members can be muted`)
    if ((record.mutedUntilTs ?? 0) === untilTs) return undefined
    return { body: { event, user, ...until }, effects: [memberEffect(group, { ...record, mutedUntilTs: untilTs })] }
  }
}

export function decideDissolve(group: string, actor: string): Decide {
  return (state, seq) => {
    assertMember(state, group, actor)
    if (roleOf(state, actor) !== 'owner') throw refuse('forbidden', 'only the owner may dissolve the group')
    const present = [...state.members.values()].filter((member) => member.role !== undefined)
    const effects: Effect[] = [{ kind: 'group', record: { ...state.record, dissolved: true } }]
    for (const member of present) effects.push(left(group, member, seq))
    return { body: { event: 'dissolved' }, effects }
  }
}
