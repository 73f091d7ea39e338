/**
 * What users change in the middle of a run: who is in a group and who is muted there, blocks, friends. One change after the other, by
 * HTTP on any node; what was asked for and answered goes into the history.
 */
import { groupConversation } from '../broker/topics.js'
import type { Answer, Api } from './api.js'
import type { Cast } from './cast.js'
import { pick, type Random } from './random.js'
import { peek } from './read-back.js'
import type { Recorder } from './recorder.js'

export interface ChangeWorld {
  api: Api
  cast: Cast
  recorder: Recorder
}

export interface LastingChange {
  what: string
  takeBack(): void
}

/** undefined: nobody knows whether it was done. */
const isDone = (answer: Answer | undefined): { isDone?: boolean } =>
  answer === undefined || answer.status >= 500 ? {} : { isDone: answer.status === 200 }

export async function askForBlock({ api, recorder }: Omit<ChangeWorld, 'cast'>, user: string, peer: string, isOn: boolean): Promise<void> {
  const at = recorder.tick()
  const answer = await api.call(user, isOn ? 'blocks.add' : 'blocks.remove', { user: peer })
  recorder.write({ event: 'block', user, peer, isOn, at, doneAt: recorder.tick(), ...isDone(answer) })
}

export class Changes {
  readonly #world: ChangeWorld
  #last: Promise<unknown> = Promise.resolve()
  /** Members of restless groups, as far as is known. */
  readonly #inside = new Map<string, Set<string>>()
  readonly #lasting = new Set<() => Promise<unknown>>()

  constructor(world: ChangeWorld) {
    this.#world = world
  }

  /** Takes back what lasts, and resolves when everything has been answered. */
  async heal(): Promise<void> {
    for (const undo of this.#lasting) this.#queue(undo)
    this.#lasting.clear()
    await this.#last
  }

  /** Who is out comes in, who is in goes: as far as is known, since a change may still be under way. */
  members(random: Random): string {
    const { cast } = this.#world
    const { group, owner } = pick(
      random,
      cast.groups.filter(({ isRestless }) => isRestless),
    )
    const inside = this.#insideOf(group)
    const [first, second] = [pick(random, cast.churners), pick(random, cast.churners)]
    const isIn = inside.has(first)
    const change = isIn ? pick(random, ['remove', 'leave'] as const) : 'add'
    const users = change === 'leave' || first === second || inside.has(second) !== isIn ? [first] : [first, second]
    for (const user of users) {
      if (isIn) inside.delete(user)
      else inside.add(user)
    }
    this.#queue(() => this.#askForMembers(group, change, users, change === 'leave' ? first : owner))
    return `${change} ${users.join(', ')} in ${group}`
  }

  /** Somebody who stays in his group is muted there. */
  mute(random: Random): LastingChange {
    const { api, cast } = this.#world
    const { group, owner, members } = pick(random, cast.groups)
    const user = pick(
      random,
      members.filter((member) => member === owner || !cast.churners.includes(member)),
    )
    const ask = (more: object) => (): Promise<unknown> => api.call(owner, 'group.mute', { group, user, ...more })
    return this.#lasts(`${user} in ${group}`, ask({}), ask({ until: 0 }))
  }

  /** One blocks a friend, or asks to be his friend, who accepts; both end. */
  people(random: Random): LastingChange {
    const { api, cast } = this.#world
    const user = pick(random, cast.users)
    const peer = pick(random, cast.friendsOf(user))
    if (random(3) > 0)
      return this.#lasts(
        `${user} blocks ${peer}`,
        () => askForBlock(this.#world, user, peer, true),
        () => askForBlock(this.#world, user, peer, false),
      )
    const befriend = async (): Promise<void> => {
      await api.call(user, 'friends.add', { user: peer })
      await api.call(peer, 'friends.accept', { user })
    }
    return this.#lasts(`${user} and ${peer} are friends`, befriend, () => api.call(peer, 'friends.remove', { user }))
  }

  #lasts(what: string, ask: () => Promise<unknown>, undo: () => Promise<unknown>): LastingChange {
    this.#queue(ask)
    this.#lasting.add(undo)
    const takeBack = (): void => {
      if (this.#lasting.delete(undo)) this.#queue(undo)
    }
    return { what, takeBack }
  }

  #queue(ask: () => Promise<unknown>): void {
    this.#last = this.#last.then(ask)
  }

  #insideOf(group: string): Set<string> {
    let inside = this.#inside.get(group)
    if (inside === undefined) {
      inside = new Set(this.#world.cast.groups.find((each) => each.group === group)?.members)
      this.#inside.set(group, inside)
    }
    return inside
  }

  async #askForMembers(group: string, change: 'add' | 'remove' | 'leave', users: string[], actor: string): Promise<void> {
    const { api, recorder } = this.#world
    const at = recorder.tick()
    const answer = await api.call(actor, `group.${change}`, change === 'leave' ? { group } : { group, users })
    const changed = (answer?.body.added ?? answer?.body.removed ?? users) as string[]
    const done = isDone(answer)
    recorder.write({ event: 'members', group, change, users: changed, at, ...done })
    // Whoever has just gone, or come, tries to look at more than is his.
    if (done.isDone === true) for (const user of changed) await peek({ api, recorder }, user, groupConversation(group))
  }
}
