/**
 * Tells watching sessions of each change. Hints of all kinds only say whom to look at; what is told is what the look finds, so a hint that
 * is lost, late or wrong does no harm: everybody who is watched is looked at again every few seconds. A session is told a value that differs
 * from the last one it was told, and nothing while it cannot be known.
 */

import { isOnline, type Standing } from '../../broker/device-registry.js'
import type { Logger } from '../../broker/logger.js'
import type { SubscriptionOwner } from '../../broker/plugin.js'
import type { Session } from '../../broker/session.js'
import { presenceTopic } from '../../broker/topics.js'
import { hiddenValue, judgementOf, type PresenceValue, type PresenceWorld, presenceOf } from './value.js'
import { type Watch, type Watched, Watches } from './watches.js'

export interface ObserversOptions {
  world: PresenceWorld
  logger: Logger
  lookUp(users: readonly string[]): Promise<(Standing | undefined)[]>
  /** Users whom one session may watch. */
  watchesMax: number
  /** A session was told. */
  told(): void
}

/** All watched users are looked at in five rounds. */
const roundMs = 2_000
const rounds = 5
/** In one round; with more watched users it takes longer to come around. */
const roundMax = 1_000
const batchMax = 200
/** Watches judged at once. */
const judgedAtOnce = 50
/** Before a session is told anything it is judged anew, unless that was so lately. */
const judgedMsMax = 15_000
/** A watch about which there is nothing to tell is judged anew after so long, a few in each round. */
const silentMs = 300_000
const silentMax = 50
/** As many, after a break in which the word of a block may have been lost. */
const doubtedMax = 1_000

/** Several places note when a user went, each a little later than the other: that is no change. */
const sameTimeMs = 2_000

const hidden = JSON.stringify(hiddenValue)

export class Observers implements SubscriptionOwner {
  readonly #options: ObserversOptions
  readonly #watches = new Watches()
  readonly #due = new Set<string>()
  #isLooking = false
  #timer: NodeJS.Timeout | undefined
  #round: Iterator<string> | undefined
  /** What was judged before may be wrong without a hint; monotonic. */
  #missedMs = 0

  constructor(options: ObserversOptions) {
    this.#options = options
  }

  get watchCount(): number {
    return this.#watches.size
  }

  start(): void {
    this.#timer = setInterval(() => this.#goRound(), roundMs).unref()
  }

  close(): void {
    clearInterval(this.#timer)
    this.#due.clear()
  }

  // --- subscribing ------------------------------------------------------------------------------------------------

  async subscribe(session: Session, user: string): Promise<(() => void) | undefined> {
    const known = this.#watches.find(session, user)
    if (known === undefined && this.#watches.countOf(session) >= this.#options.watchesMax) return undefined
    // There before it is judged, so that no hint passes it by.
    const watch = known ?? { session, via: undefined, isHidden: true, judgedMs: 0, told: hidden }
    if (known === undefined) this.#watches.add(user, watch)
    if (!(await this.#judge(user, watch))) return undefined
    return () => {
      watch.told = undefined
      this.look([user])
    }
  }

  unsubscribe(session: Session, user: string): void {
    this.#watches.remove(session, user)
  }

  // --- hints ------------------------------------------------------------------------------------------------------

  look(users: readonly string[] | 'all'): void {
    for (const user of users === 'all' ? this.#watches.users() : users) if (this.#watches.of(user) !== undefined) this.#due.add(user)
    if (this.#due.size > 0 && !this.#isLooking) void this.#lookAtDue()
  }

  busyChanged(user: string): void {
    const watched = this.#watches.of(user)
    if (watched === undefined) return
    watched.value = undefined
    watched.changes++
    this.look([user])
  }

  /** Hints may have been lost until now: everybody is judged anew, within some rounds. */
  missed(): void {
    this.#missedMs = performance.now()
    for (const user of this.#watches.users()) this.busyChanged(user)
  }

  /** Who may see this user, and whom his sessions may see, may be others now. */
  judgeAnew(user: string, sessions: readonly Session[]): void {
    for (const watch of this.#watches.of(user)?.watches.values() ?? []) watch.judgedMs = 0
    this.look([user])
    for (const session of sessions) {
      for (const other of this.#watches.usersOf(session)) {
        const watch = this.#watches.find(session, other)
        if (watch !== undefined) watch.judgedMs = 0
        this.look([other])
      }
    }
  }

  // --- looking ----------------------------------------------------------------------------------------------------

  #goRound(): void {
    const count = Math.min(roundMax, Math.ceil(this.#watches.userCount / rounds))
    const users: string[] = []
    let [silent, doubted] = [0, 0]
    const nowMs = performance.now()
    for (let at = 0; at < count; at++) {
      this.#round ??= this.#watches.users()
      const next = this.#round.next()
      if (next.done) {
        this.#round = undefined
        break
      }
      users.push(next.value)
      for (const watch of this.#watches.of(next.value)?.watches.values() ?? []) {
        if (watch.judgedMs < this.#missedMs && watch.judgedMs > 0 && doubted < doubtedMax) {
          watch.judgedMs = 0
          doubted++
        } else if (nowMs - watch.judgedMs >= silentMs && silent < silentMax) {
          watch.judgedMs = 0
          silent++
        }
      }
    }
    this.look(users)
  }

  /** One look after the other, so that what is told of a user keeps its order. */
  async #lookAtDue(): Promise<void> {
    this.#isLooking = true
    try {
      while (this.#due.size > 0) {
        const users = this.#nextDue()
        const standings = await this.#options.lookUp(users)
        await Promise.all(users.map((user, at) => this.#show(this.#watches.of(user), standings[at])))
      }
    } finally {
      this.#isLooking = false
    }
  }

  #nextDue(): string[] {
    const users: string[] = []
    for (const user of this.#due) {
      if (users.length >= batchMax) break
      this.#due.delete(user)
      users.push(user)
    }
    return users
  }

  /** Does not reject: who could not be told is told in a later round. */
  async #show(watched: Watched | undefined, standing: Standing | undefined): Promise<void> {
    if (watched === undefined) return
    try {
      await this.#note(watched, standing)
      const waiting = [...watched.watches.values()].filter((watch) => watch.judgedMs === 0 || watch.told !== payloadOf(watched, watch))
      for (let at = 0; at < waiting.length; at += judgedAtOnce)
        await Promise.all(waiting.slice(at, at + judgedAtOnce).map((watch) => this.#tell(watched, watch)))
    } catch (error) {
      this.#options.logger.warn({ err: error, user: watched.user }, 'whether a user is online could not be told; it is tried again')
    }
  }

  async #note(watched: Watched, standing: Standing | undefined): Promise<void> {
    const { world } = this.#options
    if (standing !== undefined) {
      const before = watched.standing
      const isSame =
        before !== undefined && isOnline(before) === isOnline(standing) && (isOnline(standing) || before.goneTs === standing.goneTs)
      if (!isSame) watched.value = undefined
      watched.standing = standing
    }
    if (watched.standing === undefined || watched.value !== undefined) return
    const { changes } = watched
    const value = await presenceOf(world, watched.user, watched.standing)
    if (watched.changes === changes) watched.value = value
    if (watched.payload === undefined || !isHardlyLater(JSON.parse(watched.payload) as PresenceValue, value))
      watched.payload = JSON.stringify(value)
  }

  async #tell(watched: Watched, watch: Watch): Promise<void> {
    const { user } = watched
    const { session } = watch
    if ((performance.now() - watch.judgedMs > judgedMsMax || watch.judgedMs === 0) && !(await this.#judge(user, watch))) return
    const payload = payloadOf(watched, watch)
    if (payload === undefined || payload === watch.told || watched.watches.get(session) !== watch) return
    if (!session.sendSignal(presenceTopic(user), payload)) return
    watch.told = payload
    this.#options.told()
  }

  /** False: he shares nothing with the user, and watches him no more; the last that he hears then is what anybody may know. */
  async #judge(user: string, watch: Watch): Promise<boolean> {
    const { session } = watch
    // A hint that comes meanwhile makes it 0 again.
    watch.judgedMs = performance.now()
    try {
      const judgement = await judgementOf(this.#options.world, session.user, user, watch.via)
      if (judgement !== undefined) Object.assign(watch, judgement)
      else if (this.#watches.find(session, user) === watch) {
        this.#watches.remove(session, user)
        if (watch.told !== hidden) session.sendSignal(presenceTopic(user), hidden)
      }
      return judgement !== undefined
    } catch (error) {
      watch.judgedMs = 0
      throw error
    }
  }
}

const payloadOf = (watched: Watched, watch: Watch): string | undefined => (watch.isHidden ? hidden : watched.payload)

function isHardlyLater(before: PresenceValue, { status, last_seen = 0 }: PresenceValue): boolean {
  return status === 'offline' && before.status === status && Math.abs(last_seen - (before.last_seen ?? 0)) < sameTimeMs
}
