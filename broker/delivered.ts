/**
 * How far each member of a conversation has been delivered to: the highest seq that any of his devices has acknowledged, with or without a
 * stored session. Moves forwards only. Kept durably, written behind: after a crash it may be some seconds old, and the next
 * acknowledgement puts it right. The hub says what was acknowledged; plugins read it and are told of each move.
 */
import type { Logger } from './logger.js'
import type { KeyValueStore, Store } from './store/store.js'
import type { ConversationId } from './topics.js'

export interface DeliveredOptions {
  records: KeyValueStore
  logger: Logger
  /** Called after each move forwards. */
  moved(user: string, conv: ConversationId, seq: number): void
}

interface Move {
  user: string
  conv: ConversationId
  seq: number
}

const writeMs = 2_000
const writesAtOnce = 500
/** Positions kept in memory; the oldest are read from the store again. */
const knownMax = 200_000

const prefixOf = (conv: ConversationId): string => `delivered/${conv}/`

export class Delivered {
  readonly #options: DeliveredOptions
  readonly #known = new Map<string, number>()
  /** Acknowledged while the stored position is read. */
  readonly #reading = new Map<string, Move>()
  readonly #unsaved = new Map<string, Move>()
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  constructor(options: DeliveredOptions) {
    this.#options = options
  }

  /** A device of the user has acknowledged up to seq. Never throws. */
  acknowledged(user: string, conv: ConversationId, seq: number): void {
    const key = prefixOf(conv) + user
    const known = this.#known.get(key)
    if (known !== undefined) {
      if (seq > known) this.#move(key, { user, conv, seq })
      return
    }
    const reading = this.#reading.get(key)
    if (reading !== undefined) {
      reading.seq = Math.max(reading.seq, seq)
      return
    }
    const position = { user, conv, seq }
    this.#reading.set(key, position)
    this.#stored(key).then(
      (stored) => {
        this.#reading.delete(key)
        if (position.seq > stored) this.#move(key, position)
        else this.#remember(key, stored)
      },
      (error) => {
        this.#reading.delete(key)
        this.#options.logger.warn({ err: error }, 'what was delivered before cannot be read')
      },
    )
  }

  /** Another node says so, and keeps it. */
  heard(user: string, conv: ConversationId, seq: number): void {
    const key = prefixOf(conv) + user
    if (seq > (this.#known.get(key) ?? 0)) this.#remember(key, seq)
  }

  async #stored(key: string): Promise<number> {
    return numberOf(await this.#options.records.get(key))
  }

  #remember(key: string, seq: number): void {
    this.#known.set(key, seq)
    if (this.#known.size <= knownMax) return
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest)
      return
    }
  }

  #move(key: string, position: Move): void {
    this.#remember(key, position.seq)
    this.#unsaved.set(key, position)
    this.#timer ??= setTimeout(() => void this.flush(), writeMs)
    this.#options.moved(position.user, position.conv, position.seq)
  }

  /** As if nothing had been delivered. */
  async forget(user: string, conv: ConversationId): Promise<void> {
    await this.flush()
    const key = prefixOf(conv) + user
    this.#known.delete(key)
    this.#unsaved.delete(key)
    await this.#options.records.remove(key)
  }

  /** 0 when nothing was delivered. */
  async of(user: string, conv: ConversationId): Promise<number> {
    return (await this.ofEach([{ user, conv }]))[0] as number
  }

  /** The same for many, in the order asked. */
  async ofEach(places: readonly { user: string; conv: ConversationId }[]): Promise<number[]> {
    const keys = places.map(({ user, conv }) => prefixOf(conv) + user)
    const stored = await this.#options.records.getAll(keys)
    return keys.map((key, at) => this.#latest(key, numberOf(stored[at])))
  }

  /** Of every user, as of now; read at once, for a conversation of many. */
  async in(conv: ConversationId): Promise<(user: string) => number> {
    const prefix = prefixOf(conv)
    const stored = new Map<string, number>()
    for await (const { key, value } of this.#options.records.entries(prefix)) stored.set(key, numberOf(value))
    return (user) => this.#latest(prefix + user, stored.get(prefix + user))
  }

  #latest(key: string, stored = 0): number {
    return Math.max(stored, this.#known.get(key) ?? 0, this.#unsaved.get(key)?.seq ?? 0)
  }

  /** Resolves when all that moved until now is written, or has been tried. */
  flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #write(): Promise<void> {
    const all = [...this.#unsaved]
    for (let at = 0; at < all.length; at += writesAtOnce) {
      try {
        await this.#save(all.slice(at, at + writesAtOnce))
      } catch (error) {
        this.#options.logger.warn({ err: error }, 'what was delivered cannot be written; it is tried again')
        this.#timer ??= setTimeout(() => void this.flush(), writeMs).unref()
        return
      }
    }
  }

  /** Another node may have seen more. */
  async #save(moves: readonly (readonly [string, Move])[]): Promise<void> {
    const { records } = this.#options
    const stored = await records.getAll(moves.map(([key]) => key))
    const further = moves.filter(([, { seq }], at) => numberOf(stored[at]) < seq)
    await Promise.all(further.map(([key, { seq }]) => records.put(key, Buffer.from(String(seq)))))
    for (const [key, { seq }] of moves) if (this.#unsaved.get(key)?.seq === seq) this.#unsaved.delete(key)
  }
}

const numberOf = (stored: Buffer | undefined): number => Number(stored?.toString() ?? 0)

/** How far a user is in a conversation. */
export interface Position {
  user: string
  delivered: number
  read: number
}

type PositionsWorld = { store: Store; delivered: Delivered }

/** In the order asked; what was read was delivered, too. */
export async function positionsOf(
  { store, delivered }: PositionsWorld,
  places: readonly { user: string; conv: ConversationId }[],
): Promise<Position[]> {
  const [reads, received] = await Promise.all([store.directory.reads(places), delivered.ofEach(places)])
  return places.map(({ user }, at) => {
    const read = reads[at] as number
    return { user, delivered: Math.max(read, received[at] as number), read }
  })
}

export const positionOf = async (world: PositionsWorld, user: string, conv: ConversationId): Promise<Position> =>
  (await positionsOf(world, [{ user, conv }]))[0] as Position
