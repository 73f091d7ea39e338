/**
 * Knows the live sessions of this node and gives every stored message to those that may see it, in log order per
 * conversation, without ever waiting for one. Also the door through which a session comes (`open`, `start`) and goes (`close`),
 * and the keeper of cursors, which are written behind. docs/architecture.md, "The delivery rule".
 */
import { Audiences } from './audiences.js'
import { type BacklogLimits, type BacklogPlan, planBacklog } from './backlog.js'
import { Refusal } from './errors.js'
import type { Logger } from './logger.js'
import { Frame } from './mqtt/encode.js'
import { OwnPositions, type Positions } from './positions.js'
import { removeFrom } from './remove-from.js'
import { type Outlet, Session, type SessionLimits, type SessionWorld } from './session.js'
import type { Effect, LogEntry, MemberRecord, MovedCursor, Store } from './store/store.js'
import { type ConversationId, deliveryTopic, isGroup, isUnnamed, peerOf } from './topics.js'

export interface HubOptions {
  store: Store
  logger: Logger
  limits: SessionLimits
  backlog: BacklogLimits
  /** undefined: this process is the store's only writer. */
  positions?: Positions
  /** A device has acknowledged all up to seq; told within 200 ms. */
  delivered?(user: string, conv: ConversationId, seq: number): void
  /** A session has its epoch: from here on it is the device's, on whatever node another one is. */
  opened?(session: Session): void
  /** A session that had its epoch has ended. */
  closed?(session: Session): void
  observe?: { delivered(messages: number): void; replayed(messages: number): void; overtaken(): void }
  now?: () => number
}

export interface OpenRequest {
  user: string
  device: string
  persistent: boolean
  outlet: Outlet
}

export interface OpenedSession {
  session: Session
  /** A stored session goes on [MQTT-3.2.2-2]. */
  present: boolean
  backlog: BacklogPlan
}

const cursorWriteMs = 1_000
/** A store that takes long for cursors has so many times as long for messages in between. */
const cursorRest = 4
const deliveredMs = 200

export class Hub implements SessionWorld {
  readonly limits: SessionLimits
  readonly #options: HubOptions
  readonly #sessions = new Map<string, Session[]>()
  readonly #opening = new Map<string, Promise<OpenedSession>>()
  readonly #audiences = new Audiences((user) => this.sessionsOf(user))
  readonly #positions: Positions
  readonly #dirty = new Set<Session>()
  #writing: Promise<void> = Promise.resolve()
  #cursorsTookMs = 0
  #timer: NodeJS.Timeout | undefined
  #deliveredTimer: NodeJS.Timeout | undefined

  constructor(options: HubOptions) {
    this.#options = options
    this.limits = options.limits
    this.#positions = options.positions ?? new OwnPositions(options.store)
  }

  get sessionCount(): number {
    let count = 0
    for (const sessions of this.#sessions.values()) count += sessions.length
    return count
  }

  get behindCount(): number {
    let count = 0
    for (const sessions of this.#sessions.values()) for (const session of sessions) if (session.behind !== undefined) count++
    return count
  }

  sessionsOf(user: string): readonly Session[] {
    return this.#sessions.get(user) ?? []
  }

  /** Users with sessions here. */
  users(): Iterable<string> {
    return this.#sessions.keys()
  }

  /** Sessions of present members of a group. */
  audienceOf(conv: ConversationId): readonly Session[] {
    return this.#audiences.of(conv) ?? []
  }

  // --- the coming and going of sessions ---------------------------------------------------------------------------

  /**
   * Makes a session live: from here on no message passes it by; `start` lets it flow. An older session of the same
   * device is closed, its cursors are kept. Rejects when the store cannot be read.
   */
  async open({ user, device, persistent, outlet }: OpenRequest): Promise<OpenedSession> {
    const older = this.sessionsOf(user).find((session) => session.device === device)
    if (older !== undefined) {
      older.outlet.close('the same device has connected again')
      this.close(older)
    }
    const session = new Session(user, device, persistent, outlet, this)
    this.#add(session)
    // One after the other per device: what an overtaken connect still writes must not undo what the later one writes.
    const { key } = session
    const earlier = this.#opening.get(key)
    const opened = earlier === undefined ? this.#load(session) : earlier.then(nothing, nothing).then(() => this.#load(session))
    this.#opening.set(key, opened)
    try {
      return await opened
    } catch (error) {
      this.close(session)
      throw error
    } finally {
      if (this.#opening.get(key) === opened) this.#opening.delete(key)
    }
  }

  async #load(session: Session): Promise<OpenedSession> {
    const { store, backlog } = this.#options
    const { user, device, persistent } = session
    await this.#writing
    // To a device without a name nobody comes back: it has no other session, and nothing stored.
    const { epoch, stored } = isUnnamed(device) ? { epoch: 1, stored: undefined } : await store.sessions.open(user, device)
    session.epoch = epoch
    if (session.overtakenBy > epoch) this.#endOvertaken(session)
    assertOpen(session)
    this.#options.opened?.(session)
    const standing = await this.#positions.of(user)
    const { rows } = standing
    const heads = session.closed ? [] : this.#audiences.join(session, rows, standing.heads())
    session.isPlaced = true
    for (const { conv, head } of standing.done()) session.missed(conv, [{ next: 1, last: head }])
    assertOpen(session)
    const nowMs = (this.#options.now ?? Date.now)()
    let cursors: Map<ConversationId, number> | undefined
    if (persistent && stored !== undefined) cursors = await store.sessions.cursors(user, device)
    else if (persistent) {
      cursors = new Map(rows.flatMap(({ conv }, index) => (heads[index]?.head ? [[conv, heads[index].head] as const] : [])))
      await store.sessions.create({ user, device, createdTs: nowMs, seenTs: nowMs, epoch }, cursors)
    } else if (stored !== undefined) await store.sessions.remove(user, device, epoch)
    return { session, present: persistent && stored !== undefined, backlog: planBacklog(user, rows, heads, cursors, backlog) }
  }

  /** Lets the backlog and everything since flow. To be called once, after CONNACK. */
  start({ session, backlog }: OpenedSession): void {
    if (!session.closed) session.start(backlog.ranges, backlog.heads, backlog.truncated)
  }

  close(session: Session): void {
    if (session.closed) return
    session.closed = true
    removeFrom(this.#sessions, session.user, session)
    this.#audiences.close(session)
    if (session.cursors !== undefined) this.#writeCursors()
    if (session.epoch > 0) this.#options.closed?.(session)
  }

  /** The device has a session of this epoch on another node: an older one here ends. */
  overtake(user: string, device: string, epoch: number): void {
    const session = this.sessionsOf(user).find((each) => each.device === device)
    if (session === undefined) return
    session.overtakenBy = Math.max(session.overtakenBy, epoch)
    if (session.epoch > 0 && session.epoch < epoch) this.#endOvertaken(session)
  }

  #endOvertaken(session: Session): void {
    this.#options.observe?.overtaken()
    session.outlet.close('the same device has connected to another server')
    this.close(session)
  }

  #add(session: Session): void {
    const sessions = this.#sessions.get(session.user)
    if (sessions === undefined) this.#sessions.set(session.user, [session])
    else sessions.push(session)
  }

  // --- delivery ---------------------------------------------------------------------------------------------------

  /** Called for every entry after it is durable, in log order per conversation. Synchronous: nobody is waited for. */
  dispatch(conv: ConversationId, entry: LogEntry, effects: readonly Effect[]): void {
    if (!isGroup(conv)) return this.#dispatchDirect(conv, entry)
    for (const effect of effects)
      if (effect.kind === 'member' && effect.record.role !== undefined) this.#audiences.admit(conv, effect.record, entry.seq)
    const audience = this.#audiences.of(conv)
    if (audience !== undefined) this.#deliver(conv, entry, audience, deliveryTopic(conv, ''))
    for (const effect of effects)
      if (effect.kind === 'member' && effect.record.role === undefined) this.#audiences.dismiss(conv, effect.record, entry.seq)
  }

  #dispatchDirect(conv: ConversationId, entry: LogEntry): void {
    const { from } = entry
    const peer = peerOf(conv, from)
    this.#deliverTo(peer, conv, entry)
    if (peer !== from) this.#deliverTo(from, conv, entry)
  }

  #deliverTo(user: string, conv: ConversationId, entry: LogEntry): void {
    const sessions = this.#sessions.get(user)
    if (sessions !== undefined) this.#deliver(conv, entry, sessions, deliveryTopic(conv, user))
  }

  #deliver(conv: ConversationId, entry: LogEntry, sessions: readonly Session[], topic: string): void {
    let frame: Frame | undefined
    const { seq, from, device } = entry
    for (const session of sessions) {
      if (session.device === device && session.user === from) session.offerOwn(conv, seq)
      else {
        frame ??= new Frame(topic, entry.payload)
        session.offer(conv, seq, frame)
      }
    }
    this.#options.observe?.delivered(sessions.length)
  }

  /** Of a member whose coming was not dispatched, though all up to `position` was. */
  joinLate(conv: ConversationId, member: MemberRecord, position: number): void {
    this.#audiences.joinLate(conv, member, position)
  }

  // --- what sessions need -----------------------------------------------------------------------------------------

  read(conv: ConversationId, from: number, to: number, limit: number): Promise<LogEntry[]> {
    return this.#options.store.log.read(conv, from, to, limit, this.limits.socketBytesMax)
  }

  replayed(messages: number): void {
    this.#options.observe?.replayed(messages)
  }

  /** The log cannot be read: the client comes back, and finds its cursor where it was. */
  failed(session: Session, error: unknown): void {
    this.#options.logger.error({ err: error, session: session.key }, 'the backlog of a session cannot be read')
    session.outlet.close('the store cannot be read')
  }

  cursorMoved(session: Session): void {
    this.#dirty.add(session)
    this.#timer ??= setTimeout(() => this.#writeCursors(), Math.max(cursorWriteMs, this.#cursorsTookMs * cursorRest))
    this.#deliveredTimer ??= setTimeout(() => this.#tellDelivered(), deliveredMs)
  }

  #tell({ user, cursors }: Session): void {
    for (const [conv, seq] of cursors ?? []) this.#options.delivered?.(user, conv, seq)
  }

  /** What a persistent session has acknowledged stays until it is written; until then it is told again, which changes nothing. */
  #tellDelivered(): void {
    for (const session of this.#dirty) {
      this.#tell(session)
      if (session.persistent) continue
      session.takeCursors()
      this.#dirty.delete(session)
    }
    this.#deliveredTimer = this.#dirty.size > 0 ? setTimeout(() => this.#tellDelivered(), deliveredMs) : undefined
  }

  /** One write at a time; a failed one leaves the cursors to be written later, a repeat at worst. */
  #writeCursors(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(async () => {
      const moved: MovedCursor[] = []
      const sources: [Session, Map<ConversationId, number>][] = []
      for (const session of this.#dirty) {
        const { user, device, epoch } = session
        this.#tell(session)
        const cursors = session.takeCursors()
        if (!session.persistent || cursors === undefined) continue
        for (const [conv, seq] of cursors) moved.push({ user, device, epoch, conv, seq })
        sources.push([session, cursors])
      }
      this.#dirty.clear()
      if (moved.length === 0) return
      const startedMs = performance.now()
      try {
        await this.#options.store.sessions.saveCursors(moved, (this.#options.now ?? Date.now)())
      } catch (error) {
        this.#options.logger.warn({ err: error }, 'cursors cannot be written; what was acknowledged lately may be delivered again')
        this.#keepForLater(sources)
      }
      this.#cursorsTookMs = performance.now() - startedMs
    })
  }

  #keepForLater(sources: readonly [Session, Map<ConversationId, number>][]): void {
    for (const [session, cursors] of sources) {
      if (session.closed) continue
      for (const [conv, seq] of session.cursors ?? []) cursors.set(conv, seq)
      session.cursors = cursors
      this.cursorMoved(session)
    }
  }

  /** Forgets a stored session of a device, and ends the live one. */
  async forget(user: string, device: string): Promise<void> {
    const live = this.sessionsOf(user).find((session) => session.device === device)
    live?.outlet.close('the session was removed')
    if (live !== undefined) this.close(live)
    await this.#writing
    await this.#options.store.sessions.remove(user, device)
  }

  /** Resolves when all cursors are written. */
  async flush(): Promise<void> {
    this.#writeCursors()
    await this.#writing
  }
}

function assertOpen({ closed }: Session): void {
  if (closed) throw new Refusal('unavailable', 'the connection was closed while its session was opened')
}

function nothing(): void {
  return undefined
}
