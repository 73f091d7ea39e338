/**
 * Gives the entries of every conversation that somebody here is in to the hub once and in log order, whichever node wrote them and in whatever
 * order, how often or how late they are heard of. What was not heard of is read from the log: when a later entry shows that something is
 * missing, and when somebody says how far a conversation is. Nothing is kept beyond a position for each
 * conversation of the users that are connected here, and a few entries that came too early.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Head } from '../backlog.js'
import type { Logger } from '../logger.js'
import type { Newer, Positions, Standing } from '../positions.js'
import { removeFrom } from '../remove-from.js'
import type { ConversationRow, Effect, LogEntry, MemberRecord, Store } from '../store/store.js'
import { type ConversationId, groupOf, isGroup, usersOf } from '../topics.js'

/** A session. */
interface Follower {
  /** It has its place in each conversation that its user had when they were read: every other is newer, and all of it for him. */
  readonly isPlaced: boolean
  readonly groups: ReadonlySet<ConversationId> | undefined
  /** Groups that its user has left, and up to where it has heard them. */
  readonly formerGroups: ReadonlyMap<ConversationId, number> | undefined
}

/** Who is connected here: the hub. */
export interface Audience {
  users(): Iterable<string>
  sessionsOf(user: string): readonly Follower[]
  audienceOf(conv: ConversationId): readonly unknown[]
  dispatch(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void
  /** A member's coming was not dispatched; all up to `position` was. */
  joinLate(conv: ConversationId, member: MemberRecord, position: number): void
}

export interface LogOrderOptions {
  store: Store
  logger: Logger
  /** Asked for at each use: it is made with this order. */
  audience: () => Audience
  /** Entries were not heard of in time and read from the log. */
  observeRecovered?: (entries: number) => void
  /** The conversations of a user are being read; what it returns is called with them. */
  reading?: (user: string) => (rows: readonly ConversationRow[], heads: readonly Head[]) => void
}

interface Heard {
  entry: LogEntry
  effects: readonly Effect[]
}

/** Something below `target` has not been heard of. */
interface Gap {
  target: number
  /** What came too early, by seq. */
  early: Map<number, Heard>
  timer: NodeJS.Timeout | undefined
  isReading: boolean
  /** Told at the end. */
  waiting: (() => void)[]
}

interface Opening {
  sessions: number
  /** The highest seq heard of while nobody knew where the conversation stands. */
  seen: number
}

/** A session whose user's conversations are being read. */
interface Reading {
  /** What was told meanwhile, and nobody could say whether it is among them: how far each is, and whether the user is said to have come in lately. */
  told: Map<ConversationId, { seq: number; hasJoined: boolean }>
}

/** What is under way on the bus comes within this. */
const patienceMs = 20
const earlyMax = 64
const readMax = 256
const retryMs = 500
/** Between two looks for conversations in which nobody is any more. */
const forgetMs = 60_000
const sliceMax = 5_000
const joiningMax = 1_000

export class LogOrder implements Positions {
  readonly #options: LogOrderOptions
  /** Up to where each conversation has been dispatched here. */
  readonly #positions = new Map<ConversationId, number>()
  readonly #gaps = new Map<ConversationId, Gap>()
  /** Members whose coming was missed, by `group user`. */
  readonly #joining = new Set<string>()
  /** Conversations of sessions that are loading. */
  readonly #opening = new Map<ConversationId, Opening>()
  /** By user. */
  readonly #readings = new Map<string, Reading[]>()
  readonly #timer: NodeJS.Timeout
  #closed = false

  constructor(options: LogOrderOptions) {
    this.#options = options
    this.#timer = setInterval(() => void this.#forget(), forgetMs).unref()
  }

  /** Conversations in which something is missing. */
  get gaps(): number {
    return this.#gaps.size
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
    for (const { timer } of this.#gaps.values()) clearTimeout(timer)
  }

  // --- what is heard ----------------------------------------------------------------------------------------------

  /** An entry that is durable. Dispatched before the call returns when it is the next one. */
  offer(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    const position = this.#positions.get(conv) ?? this.#begin(conv, entry.seq, this.#startOf(conv, entry.seq, effects))
    if (position === undefined || entry.seq <= position) return
    if (entry.seq > position + 1) return this.#keep(conv, { entry, effects })
    this.#pass(conv, entry, effects)
    const gap = this.#gaps.get(conv)
    if (gap !== undefined) this.#passEarly(conv, gap)
  }

  /** The log of a conversation has reached `seq`; `joined` are members that lately came in. */
  reached(conv: ConversationId, seq: number, joined: readonly string[] = []): void {
    const late = joined.filter((user) => this.#isMissedIn(conv, user))
    for (const user of joined) this.#noteTold(user, conv, seq, true)
    // Who came late gets what is his by itself.
    const position = this.#positions.get(conv) ?? this.#begin(conv, seq, late.length > 0 ? seq : this.#startOf(conv, seq, []))
    if (position === undefined) return
    if (seq > position) this.#gapOf(conv, seq)
    for (const user of late) void this.#joinLate(conv, user)
  }

  /** Starts to follow a conversation at `start`, if it is there; the position. */
  #begin(conv: ConversationId, seq: number, start: number | undefined): number | undefined {
    const opening = this.#opening.get(conv)
    if (opening !== undefined) opening.seen = Math.max(opening.seen, seq)
    else if (start !== undefined) this.#positions.set(conv, start)
    if (start !== 0) this.#noteDirect(conv, seq)
    return opening === undefined ? start : undefined
  }

  /** undefined: nobody here is in it. */
  #startOf(conv: ConversationId, seq: number, effects: readonly Effect[]): number | undefined {
    if (!isGroup(conv)) return this.#startOfDirect(conv)
    return admittedBy(effects).some((user) => this.#sessionsOf(user).length > 0) ? seq - 1 : undefined
  }

  /** What somebody had when he came is followed since then: so this conversation is newer, and all of it is for him. */
  #startOfDirect(conv: ConversationId): number | undefined {
    return usersOf(conv).some((user) => this.#sessionsOf(user).some(({ isPlaced }) => isPlaced)) ? 0 : undefined
  }

  #sessionsOf(user: string): readonly Follower[] {
    return this.#options.audience().sessionsOf(user)
  }

  #isMissedIn(conv: ConversationId, user: string): boolean {
    return this.#sessionsOf(user).some(({ isPlaced, groups }) => isPlaced && !groups?.has(conv))
  }

  /** Lost with the entry that told it: the directory knows what the user may see. Tried again with the next digest or check. */
  async #joinLate(conv: ConversationId, user: string): Promise<void> {
    const { store, audience, logger } = this.#options
    const key = `${groupOf(conv)} ${user}`
    if (this.#joining.has(key) || this.#joining.size >= joiningMax) return
    this.#joining.add(key)
    try {
      await store.log.head(conv)
      const member = await store.directory.member(groupOf(conv), user)
      const position = this.#positions.get(conv)
      if (member !== undefined && position !== undefined) audience().joinLate(conv, member, position)
    } catch (error) {
      logger.warn({ err: error, conv, user }, 'a member whose coming was missed cannot be read')
    } finally {
      this.#joining.delete(key)
    }
  }

  #pass(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    this.#positions.set(conv, entry.seq)
    try {
      this.#options.audience().dispatch(conv, entry, effects)
    } catch (error) {
      this.#options.logger.error({ err: error, conv, seq: entry.seq }, 'a stored message could not be dispatched')
    }
  }

  // --- what is missing --------------------------------------------------------------------------------------------

  #keep(conv: ConversationId, heard: Heard): void {
    const gap = this.#gapOf(conv, heard.entry.seq)
    if (gap.early.size < earlyMax) gap.early.set(heard.entry.seq, heard)
  }

  #gapOf(conv: ConversationId, target: number): Gap {
    const known = this.#gaps.get(conv)
    if (known !== undefined) {
      known.target = Math.max(known.target, target)
      return known
    }
    const gap: Gap = { target, early: new Map(), timer: undefined, isReading: false, waiting: [] }
    this.#gaps.set(conv, gap)
    this.#readLater(conv, gap, patienceMs)
    return gap
  }

  #readLater(conv: ConversationId, gap: Gap, ms: number): void {
    if (this.#closed) return
    gap.timer = setTimeout(() => void this.#close(conv, gap), ms)
  }

  #passEarly(conv: ConversationId, gap: Gap): void {
    for (;;) {
      const position = this.#positions.get(conv) ?? 0
      const heard = gap.early.get(position + 1)
      if (heard === undefined) return this.#endWhenClosed(conv, gap, position)
      gap.early.delete(position + 1)
      this.#pass(conv, heard.entry, heard.effects)
    }
  }

  #endWhenClosed(conv: ConversationId, gap: Gap, position: number): void {
    if (position < gap.target || this.#gaps.get(conv) !== gap) return
    clearTimeout(gap.timer)
    this.#gaps.delete(conv)
    for (const resolve of gap.waiting) resolve()
  }

  /** Reads what is missing. Tried again for as long as the store cannot be read. */
  async #close(conv: ConversationId, gap: Gap): Promise<void> {
    if (gap.isReading || this.#closed) return
    gap.isReading = true
    try {
      while (this.#gaps.get(conv) === gap) await this.#readPage(conv, gap)
    } catch (error) {
      if (this.#closed) return
      this.#options.logger.warn({ err: error, conv }, 'messages of other nodes cannot be read from the log; it is tried again')
      this.#readLater(conv, gap, retryMs)
    } finally {
      gap.isReading = false
    }
  }

  async #readPage(conv: ConversationId, gap: Gap): Promise<void> {
    const { log } = this.#options.store
    const from = (this.#positions.get(conv) ?? 0) + 1
    const entries = await log.read(conv, from, gap.target, readMax)
    if (entries.length === 0 && (await log.head(conv)) < gap.target) {
      // Whoever said so was wrong: the log is the truth.
      gap.target = this.#positions.get(conv) ?? 0
      return this.#passEarly(conv, gap)
    }
    const members = isGroup(conv) ? await this.#members(conv) : []
    let recovered = 0
    for (const entry of entries) {
      // What was heard of meanwhile has been dispatched.
      if (entry.seq !== (this.#positions.get(conv) ?? 0) + 1) continue
      this.#pass(conv, entry, effectsOf(conv, members, entry.seq))
      recovered++
    }
    this.#options.observeRecovered?.(recovered)
    this.#passEarly(conv, gap)
  }

  async #members(conv: ConversationId): Promise<MemberRecord[]> {
    // Reading the head brings the directory to where the log is.
    await this.#options.store.log.head(conv)
    return this.#options.store.directory.members(groupOf(conv))
  }

  // --- sessions that open -----------------------------------------------------------------------------------------

  async of(user: string): Promise<Standing> {
    const { directory, log } = this.#options.store
    const reading: Reading = { told: new Map() }
    this.#readings.set(user, [...(this.#readings.get(user) ?? []), reading])
    const read = this.#options.reading?.(user)
    let rows: ConversationRow[] = []
    const end = (): void => {
      removeFrom(this.#readings, user, reading)
      for (const { conv } of rows) this.#opened(conv)
    }
    try {
      rows = await directory.conversationsOf(user)
      for (const { conv } of rows) this.#open(conv)
      const heads = await log.heads(rows.map(({ conv }) => conv))
      read?.(rows, heads)
      await Promise.all(rows.flatMap(({ conv }, index) => this.#startAt(conv, (heads[index] as Head).head) ?? []))
      return {
        rows,
        heads: () => rows.map(({ conv }, i) => ({ head: this.#positions.get(conv) ?? 0, ts: (heads[i] as Head).ts })),
        done: () => {
          end()
          return this.#newerThan(rows, user, reading)
        },
      }
    } catch (error) {
      end()
      throw error
    }
  }

  // --- what is told while conversations are read --------------------------------------------------------------------

  #noteTold(user: string, conv: ConversationId, seq: number, hasJoined: boolean): void {
    for (const { told } of this.#readings.get(user) ?? []) {
      const before = told.get(conv)
      told.set(conv, { seq: Math.max(seq, before?.seq ?? 0), hasJoined: hasJoined || before?.hasJoined === true })
    }
  }

  #noteDirect(conv: ConversationId, seq: number): void {
    if (!isGroup(conv)) for (const user of usersOf(conv)) this.#noteTold(user, conv, seq, false)
  }

  /** Looks again at what was told while `rows` was on its way, and is not among them as it was there. */
  #newerThan(rows: readonly ConversationRow[], user: string, { told }: Reading): Newer[] {
    const newer: Newer[] = []
    const known = new Set(rows.map(({ conv }) => conv))
    for (const [conv, { seq, hasJoined }] of told) {
      // 0: it has begun, and nothing of it has been dispatched yet.
      const position = this.#positions.get(conv) ?? 0
      if (!isGroup(conv) && !known.has(conv) && position > 0) newer.push({ conv, head: position })
      this.reached(conv, seq, hasJoined ? [user] : [])
    }
    return newer
  }

  #open(conv: ConversationId): void {
    const opening = this.#opening.get(conv)
    if (opening === undefined) this.#opening.set(conv, { sessions: 1, seen: 0 })
    else opening.sessions++
  }

  #opened(conv: ConversationId): void {
    const opening = this.#opening.get(conv)
    if (opening === undefined || --opening.sessions > 0) return
    this.#opening.delete(conv)
    // Its place was not found out: what was heard is as if it were heard now.
    if (opening.seen > 0 && !this.#positions.has(conv)) this.reached(conv, opening.seen)
  }

  /** Resolves when all up to `head` has been dispatched here; undefined: it has been, or starts behind it. */
  #startAt(conv: ConversationId, head: number): Promise<void> | undefined {
    const position = this.#positions.get(conv)
    if (position === undefined) {
      const start = isGroup(conv) ? head : (this.#startOfDirect(conv) ?? head)
      this.#positions.set(conv, start)
      if (start > 0) this.#noteDirect(conv, start)
      const seen = Math.max(head, this.#opening.get(conv)?.seen ?? 0)
      if (seen > start) this.#gapOf(conv, seen)
    }
    if (position === undefined || position >= head) return undefined
    const gap = this.#gapOf(conv, head)
    return new Promise((resolve) => gap.waiting.push(resolve))
  }

  // --- now and then -----------------------------------------------------------------------------------------------

  /** Forgets conversations in which nobody here is any more. */
  async #forget(): Promise<void> {
    let looked = 0
    for (const conv of this.#positions.keys()) {
      if (++looked % sliceMax === 0) await nextTurn()
      if (!this.#opening.has(conv) && !this.#gaps.has(conv) && !this.#isFollowed(conv)) this.#positions.delete(conv)
    }
  }

  #isFollowed(conv: ConversationId): boolean {
    const audience = this.#options.audience()
    if (isGroup(conv)) return audience.audienceOf(conv).length > 0
    return usersOf(conv).some((user) => audience.sessionsOf(user).length > 0)
  }
}

const admittedBy = (effects: readonly Effect[]): string[] =>
  effects.flatMap((effect) => (effect.kind === 'member' && effect.record.role !== undefined ? [effect.record.user] : []))

/** What the entry `seq` did to the members, from what they are now: a span begins with the entry that adds and ends with the one that removes. */
function effectsOf(conv: ConversationId, members: readonly MemberRecord[], seq: number): Effect[] {
  const effects: Effect[] = []
  const group = isGroup(conv) ? groupOf(conv) : ''
  for (const member of members) {
    for (const { from, to, history } of member.spans) {
      if (history) continue
      if (from === seq) effects.push({ kind: 'member', group, record: { ...member, role: member.role ?? 'member' } })
      if (to === seq) effects.push({ kind: 'member', group, record: { ...member, role: undefined } })
    }
  }
  return effects
}
