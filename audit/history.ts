/**
 * What an audit records, and what the checker judges: a file of JSON lines, one event each, and the History that is read
 * from it. The events are what clients did, saw and could read; nothing in them comes from inside the server. Times are ms
 * since the start of the run; `at` counts the events of the run, so that any two can be put in order.
 */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { ConversationId } from '../broker/topics.js'
import type { Leftovers } from './leftovers.js'

/** First and last seq, both inclusive. */
export type Run = [from: number, to: number]
/** Per conversation what arrived, in order of arrival; what follows on is joined to one run. */
export type Runs = Record<ConversationId, Run[]>

export interface Ready {
  replayed: number
  heads: Record<string, number>
  truncated?: Record<string, [number, number]>
}

/** What speaks of an earlier message of its conversation. */
export interface Act {
  type: 'recall' | 'edit' | 'reaction'
  seq: number
}

export interface ListRow {
  conv: ConversationId
  head: number
  unread: number
  /** Of the peer, in a direct conversation; `acked` as with receipts. */
  delivered: number
  read: number
  acked: number
}

export interface Sample {
  ms: number
  acked: number
  delivered: number
  live: number
  rssMb: number
}

export type Event =
  | {
      event: 'run'
      version: 1
      seed: number
      startedAt: string
      minutes: number
      rate: number
      users: number
      /** Absent: one. */
      nodes?: number
      faults: string[]
      skipped: { kind: string; why: string }[]
    }
  | { event: 'client'; client: number; user: string; device: string; clean: boolean; transport: 'tcp' | 'ws' }
  /** `bytes`: dots behind the name in the body. The same name sent by two clients is the same message. */
  | {
      event: 'send'
      send: number
      client: number
      conv: ConversationId
      id: string | null
      name: string
      bytes: number
      at: number
      /** What it does to which message, when it is no message itself; its name is its id then. */
      act?: Act
      /** URL of the object that it names, when it is a file; its name is its id then. */
      file?: string
    }
  | { event: 'puback'; send: number; ms: number }
  | { event: 'ack'; send: number; seq: number; ts: number; dup: boolean; at: number }
  | { event: 'refused'; send: number; code: string }
  /** A payload, when it is seen first. */
  | { event: 'message'; conv: ConversationId; seq: number; raw: string }
  /** A payload that differs from the one seen first. */
  | { event: 'changed'; conv: ConversationId; seq: number; raw: string; who: string }
  | { event: 'up'; connection: number; client: number; at: number; ms: number; attempt: number; present: boolean; expiresMs?: number }
  | { event: 'ready'; connection: number; at: number; ready: Ready }
  /** `isOpen`: the run ended before the connection did. `isSilent`: it was cut off without being told. */
  | {
      event: 'down'
      connection: number
      at: number
      ms: number
      isOpen: boolean
      isSilent: boolean
      before: Runs
      after: Runs
      unacked: [ConversationId, number][]
    }
  /** A change of members that was asked for; `isDone` undefined: no answer came. */
  | { event: 'members'; group: string; change: 'create' | 'add' | 'remove' | 'leave'; users: string[]; at: number; isDone?: boolean }
  /** All that a user was shown between `from` and `to`, the head; by `peek` in the middle of the run, by the others after it. */
  | { event: 'read'; user: string; conv: ConversationId; by: 'history' | 'sync' | 'peek'; from: number; to: number; runs: Run[] }
  /** A user says that he has read up to seq; `positioned` when PUBACK says that it is kept. */
  | { event: 'position'; position: number; client: number; conv: ConversationId; seq: number; at: number }
  | { event: 'positioned'; position: number }
  /** A receipt of the peer; `acked`: the highest seq that a device of his had acknowledged by then. */
  | { event: 'receipt'; connection: number; at: number; conv: ConversationId; user: string; delivered: number; read: number; acked: number }
  | { event: 'typed'; client: number; conv: ConversationId; at: number }
  | { event: 'heard'; connection: number; conv: ConversationId; from: string; at: number }
  /** A connection subscribes to the presence of these users, and what it is told of one. */
  | { event: 'watch'; connection: number; users: string[]; ms: number }
  | { event: 'presence'; connection: number; user: string; status: 'online' | 'offline'; ms: number }
  /** A block that was asked for, or its end; `isDone` as with members, `doneAt` when the answer came. */
  | { event: 'block'; user: string; peer: string; isOn: boolean; at: number; doneAt: number; isDone?: boolean }
  /** What a user gets of the object that a message names, in the end; `isWhole`: the bytes are those that were uploaded. */
  | { event: 'looked'; user: string; conv: ConversationId; seq: number; status: number; isWhole: boolean }
  /** The conversation list of a user in the end. */
  | { event: 'list'; user: string; rows: ListRow[] }
  | { event: 'fault'; kind: string; ms: number; what: string }
  /** From when to when a fault of a server, or of what it stands on, really lasted: it may have had to wait for the one before. */
  | { event: 'outage'; node: string; fromMs: number; toMs: number }
  | { event: 'node'; node: string; what: 'up' | 'exit'; ms: number; isOrdered: boolean; why: string }
  | { event: 'logged'; node: string; level: string; text: string }
  | { event: 'sample'; sample: Sample }
  /** `endMs`: when what was still open was written down. `isRead`: all that could be read back was; false when the servers did not let it come to that. */
  | ({ event: 'healed'; ms: number; sessions: number; waitedMs: number; endMs?: number; complaint: string; isRead: boolean } & Leftovers)

export type EventOf<Name extends Event['event']> = Extract<Event, { event: Name }>

export interface ClientRecord {
  user: string
  device: string
  clean: boolean
}

/** One message that one client wanted to send, however often it went over the wire. */
export interface SendRecord {
  user: string
  device: string
  conv: ConversationId
  id: string | undefined
  name: string
  bytes: number
  at: number
  act: Act | undefined
  file: string | undefined
  isPubacked: boolean
  acks: { seq: number; ts: number; dup: boolean; at: number }[]
  refusals: string[]
}

export interface PositionRecord {
  user: string
  conv: ConversationId
  seq: number
  at: number
  isPubacked: boolean
}

/** What one connection was told of another user. */
export type Told<Name extends 'receipt' | 'heard' | 'watch' | 'presence'> = EventOf<Name> & { by: ConnectionRecord }

export interface ConnectionRecord extends ClientRecord {
  upAt: number
  upMs: number
  attempt: number
  present: boolean
  expiresMs: number | undefined
  readyAt: number | undefined
  ready: Ready | undefined
  /** undefined: live when everything had settled. */
  downAt: number | undefined
  downMs: number | undefined
  isSilent: boolean
  /** What came before `ready`, and behind it. */
  before: Runs
  after: Runs
  /** Received, and no PUBACK was sent. */
  unacked: [ConversationId, number][]
}

export interface History {
  run: EventOf<'run'>
  sends: SendRecord[]
  /** In order of CONNACK. */
  connections: ConnectionRecord[]
  messages: Map<ConversationId, Map<number, string>>
  changed: EventOf<'changed'>[]
  members: EventOf<'members'>[]
  reads: EventOf<'read'>[]
  positions: PositionRecord[]
  receipts: Told<'receipt'>[]
  typed: { user: string; conv: ConversationId; at: number }[]
  heard: Told<'heard'>[]
  watches: Told<'watch'>[]
  presences: Told<'presence'>[]
  blocks: EventOf<'block'>[]
  looks: EventOf<'looked'>[]
  lists: EventOf<'list'>[]
  faults: EventOf<'fault'>[]
  outages: EventOf<'outage'>[]
  nodes: EventOf<'node'>[]
  logged: EventOf<'logged'>[]
  samples: Sample[]
  healed: EventOf<'healed'> | undefined
}

export async function readHistory(file: string): Promise<History> {
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })
  const builder = new HistoryBuilder()
  let number = 0
  for await (const line of lines) {
    number++
    try {
      builder.add(JSON.parse(line) as Event)
    } catch (error) {
      throw new Error(`${file}, line ${number}, is not an event of an audit: ${(error as Error).message}`)
    }
  }
  return builder.history()
}

/** Puts the events together; also for histories that a test makes up. */
export class HistoryBuilder {
  #run: EventOf<'run'> | undefined
  readonly #clients: ClientRecord[] = []
  readonly #sends: SendRecord[] = []
  readonly #connections: ConnectionRecord[] = []
  readonly #rest: Omit<History, 'run' | 'sends' | 'connections'> = {
    messages: new Map(),
    changed: [],
    members: [],
    reads: [],
    positions: [],
    receipts: [],
    typed: [],
    heard: [],
    watches: [],
    presences: [],
    blocks: [],
    looks: [],
    lists: [],
    faults: [],
    outages: [],
    nodes: [],
    logged: [],
    samples: [],
    healed: undefined,
  }

  add(event: Event): void {
    switch (event.event) {
      case 'run':
        this.#run = event
        break
      case 'client':
        this.#clients[event.client] = event
        break
      case 'send':
        this.#sends[event.send] = this.#sendOf(event)
        break
      case 'puback':
        this.#send(event.send).isPubacked = true
        break
      case 'ack':
        this.#send(event.send).acks.push(event)
        break
      case 'refused':
        this.#send(event.send).refusals.push(event.code)
        break
      case 'message':
        this.#message(event)
        break
      case 'up':
        this.#connections[event.connection] = this.#connectionOf(event)
        break
      case 'ready':
        Object.assign(this.#connection(event.connection), { readyAt: event.at, ready: event.ready })
        break
      case 'down':
        this.#down(event)
        break
      default:
        this.#note(event)
    }
  }

  #note(event: Event): void {
    const rest = this.#rest
    if (event.event === 'position') rest.positions[event.position] = this.#positionOf(event)
    else if (event.event === 'positioned') this.#position(event.position).isPubacked = true
    else if (event.event === 'receipt') rest.receipts.push({ ...event, by: this.#connection(event.connection) })
    else if (event.event === 'heard') rest.heard.push({ ...event, by: this.#connection(event.connection) })
    else if (event.event === 'watch') rest.watches.push({ ...event, by: this.#connection(event.connection) })
    else if (event.event === 'presence') rest.presences.push({ ...event, by: this.#connection(event.connection) })
    else if (event.event === 'typed') rest.typed.push({ user: this.#client(event.client).user, conv: event.conv, at: event.at })
    else if (event.event === 'block') rest.blocks.push(event)
    else if (event.event === 'outage') rest.outages.push(event)
    else if (event.event === 'looked') rest.looks.push(event)
    else if (event.event === 'list') rest.lists.push(event)
    else if (event.event === 'changed') rest.changed.push(event)
    else if (event.event === 'members') rest.members.push(event)
    else if (event.event === 'read') rest.reads.push(event)
    else if (event.event === 'fault') rest.faults.push(event)
    else if (event.event === 'node') rest.nodes.push(event)
    else if (event.event === 'logged') rest.logged.push(event)
    else if (event.event === 'sample') rest.samples.push(event.sample)
    else if (event.event === 'healed') rest.healed = event
    else throw new Error(`there is no event ${JSON.stringify((event as { event: unknown }).event)}`)
  }

  #client(number: number): ClientRecord {
    const client = this.#clients[number]
    if (client === undefined) throw new Error(`client ${number} was not introduced`)
    return client
  }

  #send(number: number): SendRecord {
    const send = this.#sends[number]
    if (send === undefined) throw new Error(`send ${number} is answered before it was sent`)
    return send
  }

  #connection(number: number): ConnectionRecord {
    const connection = this.#connections[number]
    if (connection === undefined) throw new Error(`connection ${number} was never up`)
    return connection
  }

  #position(number: number): PositionRecord {
    const position = this.#rest.positions[number]
    if (position === undefined) throw new Error(`read position ${number} is confirmed before it was sent`)
    return position
  }

  #positionOf({ client, conv, seq, at }: EventOf<'position'>): PositionRecord {
    return { user: this.#client(client).user, conv, seq, at, isPubacked: false }
  }

  #sendOf({ client, conv, id, name, bytes, at, act, file }: EventOf<'send'>): SendRecord {
    const { user, device } = this.#client(client)
    return { user, device, conv, id: id ?? undefined, name, bytes, at, act, file, isPubacked: false, acks: [], refusals: [] }
  }

  #message({ conv, seq, raw }: EventOf<'message'>): void {
    const messages = this.#rest.messages.get(conv)
    if (messages === undefined) this.#rest.messages.set(conv, new Map([[seq, raw]]))
    else messages.set(seq, raw)
  }

  #connectionOf({ client, at, ms, attempt, present, expiresMs }: EventOf<'up'>): ConnectionRecord {
    const { user, device, clean } = this.#client(client)
    return {
      ...{ user, device, clean, upAt: at, upMs: ms, attempt, present, expiresMs },
      ...{ readyAt: undefined, ready: undefined, downAt: undefined, downMs: undefined, isSilent: false },
      ...{ before: {}, after: {}, unacked: [] },
    }
  }

  #down({ connection, at, ms, isOpen, isSilent, before, after, unacked }: EventOf<'down'>): void {
    const record = this.#connection(connection)
    if (!isOpen) Object.assign(record, { downAt: at, downMs: ms })
    Object.assign(record, { isSilent, before, after, unacked })
  }

  history(): History {
    if (this.#run === undefined) throw new Error('the file does not begin with the event of a run')
    return { run: this.#run, sends: this.#sends, connections: this.#connections, ...this.#rest }
  }
}
