/** Log writers on a store in memory that can be made to fail, to be slow, and to be written by others. */
import { LogWriter, type LogWriterOptions } from '../../broker/log-writer.js'
import { createLogger } from '../../broker/logger.js'
import type { Operation, Plan } from '../../broker/operation.js'
import {
  type ConversationAppend,
  type GroupRecord,
  type LogEntry,
  type MemberRecord,
  type SentKey,
  type Store,
  type StoredRetransmit,
  StoreUnavailable,
} from '../../broker/store/store.js'

/** A store in memory whose appends can be made to fail, to be overtaken and to be late. */
export class FaultyStore {
  readonly entries = new Map<string, LogEntry[]>()
  readonly groups = new Map<string, { record: GroupRecord; members: Map<string, MemberRecord> }>()
  /** Other nodes write to it too. */
  isShared = false
  headReads = 0
  /** Called before each append: what it throws is what the append rejects with. */
  beforeAppend: (batch: readonly ConversationAppend[]) => void | Promise<void> = () => undefined
  beforeFind: () => void | Promise<void> = () => undefined
  afterFind: () => void | Promise<void> = () => undefined
  beforeHeads: () => void | Promise<void> = () => undefined
  beforeRead: () => void | Promise<void> = () => undefined
  /** The append is done, and can be read, before its promise resolves. */
  afterAppend: () => void | Promise<void> = () => undefined
  /** The append is done, and its promise rejects all the same. */
  failsAfterwards = 0
  appends = 0
  /** The last send without id. */
  retransmit: StoredRetransmit | undefined

  of(conv: string): LogEntry[] {
    const entries = this.entries.get(conv) ?? []
    this.entries.set(conv, entries)
    return entries
  }

  get log(): Pick<Store['log'], 'append' | 'head' | 'heads' | 'read' | 'findSentAll' | 'findRetransmit'> {
    return {
      append: async (batch) => {
        this.appends++
        await this.beforeAppend(batch)
        const lost = batch.filter(({ conv, head }) => this.of(conv).length !== head)
        for (const append of batch) if (!lost.includes(append)) this.write(append)
        await this.afterAppend()
        if (this.failsAfterwards > 0) {
          this.failsAfterwards--
          throw new StoreUnavailable('the answer got lost')
        }
        return lost.map(({ conv }) => conv)
      },
      head: async (conv) => this.of(conv).length,
      heads: async (convs) => {
        this.headReads++
        await this.beforeHeads()
        return convs.map((conv) => ({ head: this.of(conv).length, ts: this.of(conv).at(-1)?.ts ?? 0 }))
      },
      read: async (conv, from, to, limit) => {
        await this.beforeRead()
        return this.of(conv).slice(from - 1, Math.min(to, from - 1 + limit))
      },
      findSentAll: async (keys) => {
        await this.beforeFind()
        const found = keys.map((key) => this.#find(key))
        await this.afterFind()
        return found
      },
      findRetransmit: async () => this.retransmit,
    }
  }

  #find({ conv, from, id }: SentKey): number | undefined {
    return this.of(conv).find((entry) => entry.from === from && entry.id === id)?.seq
  }

  /** As some other node would. */
  write({ conv, entries, effects }: Pick<ConversationAppend, 'conv' | 'entries' | 'effects'>): void {
    this.of(conv).push(...entries)
    for (const effect of effects) {
      if (effect.kind === 'member') this.groups.get(effect.group)?.members.set(effect.record.user, effect.record)
      else this.groups.set(effect.record.group, { members: new Map(), ...this.groups.get(effect.record.group), record: effect.record })
    }
  }

  get asStore(): Store {
    const directory = {
      user: async (user: string) => ({ user, createdTs: 0 }),
      group: async (group: string) => this.groups.get(group)?.record,
      members: async (group: string) => [...(this.groups.get(group)?.members.values() ?? [])],
      conversationsOf: async (user: string) =>
        [...this.entries.keys()].filter((conv) => conv.split('/').includes(user)).map((conv) => ({ conv })),
    }
    return { isShared: this.isShared, log: this.log, directory } as unknown as Store
  }
}

export interface Outcome {
  kind: 'stored' | 'duplicate' | 'refused' | 'failed'
  name: string
  seq?: number
  why?: string
}

interface Answers {
  outcomes: Outcome[]
  send(conv: string, from: string, id: string, more?: Partial<Operation>): void
}

export function createWriter(
  store: FaultyStore,
  more: Partial<LogWriterOptions> = {},
): Answers & { writer: LogWriter; dispatched: string[] } {
  const dispatched: string[] = []
  const outcomes: Outcome[] = []
  const writer = new LogWriter({
    store: store.asStore,
    logger: createLogger('silent'),
    retryMs: 60_000,
    dispatch: (conv, { seq }) => dispatched.push(`${conv} ${seq}`),
    ...more,
  })
  const send: Answers['send'] = (conv, from, id, more = {}) => {
    const name = `${conv} ${from} ${id}`
    const tail = Buffer.from(`"from":"${from}","id":"${id}"`)
    writer.submit(
      {
        conv,
        from,
        device: 'phone',
        id,
        isEqual: (other) => other.equals(tail),
        retransmit: undefined,
        isRetry: false,
        target: undefined,
        plan: (): Plan => ({ tail, effects: [] }),
        stored: ({ seq }) => outcomes.push({ kind: 'stored', name, seq }),
        duplicate: ({ seq }) => outcomes.push({ kind: 'duplicate', name, seq }),
        refused: ({ code }) => outcomes.push({ kind: 'refused', name, why: code }),
        failed: (why) => outcomes.push({ kind: 'failed', name, why }),
        ...more,
      },
      100,
    )
  }
  return { writer, outcomes, dispatched, send }
}

export const idsOf = (store: FaultyStore, conv: string): string[] => store.of(conv).map(({ from, id }) => `${from} ${id}`)
