/**
 * One device of one user, as a stock MQTT client has it: mqtt.js over MQTT 3.1.1, without subscriptions. Its verbs are those of
 * the conversations in test/conversations. Everything that arrives goes into `inbox` until a verb takes it, so that
 * `receivesNothing` can say that nothing unexpected came.
 */
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import mqtt, { type IConnackPacket, type IPublishPacket, type MqttClient } from 'mqtt'

export type Json = Record<string, unknown>

/** A PUBLISH that arrived. */
export interface Arrival {
  topic: string
  body: Json
  qos: number
  dup: boolean
  retain: boolean
  packetId: number | undefined
  /** Of a message: the conversation as the receiver sees it. */
  conv: string | undefined
}

export interface ActorOptions {
  device?: string
  clean?: boolean
  transport?: 'tcp' | 'ws'
  token?: string
  will?: { topic: string; payload: string; qos?: 0 | 1 | 2 }
}

/** What an actor needs of its stage. */
export interface ActorWorld {
  readonly mqttPort: number
  readonly httpPort: number
  token(user: string): Promise<string>
  /** Resolves when no session is behind the log. */
  caughtUp(): Promise<void>
}

/** A string is a text; an object is a message; bytes go as they are. */
export type Sent = string | Json | Buffer

export interface Ack extends Json {
  id: string
  conv: string
  seq: number
  ts: number
}

const waitMs = 10_000
let messageIds = 0
let callIds = 0

interface Waiter {
  what: string
  wants(arrival: Arrival): boolean
  take(arrival: Arrival): void
  fail(error: Error): void
}

export class Actor {
  readonly inbox: Arrival[] = []
  /** Everything that arrived since the last connect, taken or not. */
  readonly heard: Arrival[] = []
  readonly device: string
  /** Of the last connect. */
  sessionPresent = false
  /** The `ready` event of the last connect. */
  ready: Json = {}
  /** Resolves when the last connection has ended. */
  closed: Promise<void> = Promise.resolve()
  isConnected = false
  #client: MqttClient | undefined
  /** Receipts come when a peer acknowledges: nobody has to expect them. */
  readonly #receipts: Arrival[] = []
  readonly #waiters = new Set<Waiter>()

  constructor(
    readonly user: string,
    readonly options: ActorOptions,
    readonly world: ActorWorld,
  ) {
    this.device = options.device ?? 'phone'
  }

  // --- coming and going -------------------------------------------------------------------------------------------

  /** Connects; resolves when `ready` came, and with it all that was missed. */
  async connects(): Promise<this> {
    const token = this.options.token ?? (await this.world.token(this.user))
    const { clean = true, transport = 'tcp', will } = this.options
    const url = transport === 'ws' ? `ws://127.0.0.1:${this.world.httpPort}/mqtt` : `mqtt://127.0.0.1:${this.world.mqttPort}`
    this.heard.length = 0
    const client = mqtt.connect(url, {
      protocolVersion: 4,
      clientId: this.device,
      username: this.user,
      password: token,
      clean,
      reconnectPeriod: 0,
      connectTimeout: waitMs,
      ...(will === undefined ? {} : { will: { topic: will.topic, payload: Buffer.from(will.payload), qos: will.qos ?? 1, retain: false } }),
    })
    this.#client = client
    client.on('message', (topic, payload, packet) => this.#arrived(topic, payload, packet))
    this.closed = new Promise((resolve) => client.once('close', () => resolve()))
    void this.closed.then(() => this.#closed(client))
    const connack = await new Promise<IConnackPacket>((resolve, reject) => {
      client.once('connect', resolve)
      client.once('error', reject)
      client.once('close', () => reject(new Error(`${this.name}: the connection was closed before CONNACK`)))
    })
    client.on('error', () => undefined) // 'close' follows, and is what counts
    if ('setNoDelay' in client.stream) (client.stream as Socket).setNoDelay() // Else each send waits for a delayed TCP acknowledgement.
    this.isConnected = true
    this.sessionPresent = connack.sessionPresent
    this.ready = (await this.takes('ready', ({ topic, body }) => topic === this.topic('event') && body.type === 'ready')).body
    return this
  }

  #closed(client: MqttClient): void {
    if (client !== this.#client) return
    this.isConnected = false
    for (const waiter of this.#waiters) waiter.fail(new Error(`${this.name} waited for ${waiter.what}, but the connection was closed`))
  }

  get name(): string {
    return `${this.user}/${this.device}`
  }

  topic(leaf: string): string {
    return `u/${this.user}/${leaf}`
  }

  get client(): MqttClient {
    assert(this.#client !== undefined, `${this.name} has never connected`)
    return this.#client
  }

  /** Says goodbye with DISCONNECT. */
  async leaves(): Promise<void> {
    if (this.#client === undefined) return
    await this.#client.endAsync()
    await this.closed
  }

  /** The network is gone, without a goodbye. */
  async drops(): Promise<void> {
    this.client.stream.destroy()
    await this.closed
    await this.client.endAsync(true)
  }

  returns(): Promise<this> {
    return this.connects()
  }

  /** The server ends the connection. */
  async isClosed(): Promise<void> {
    await within(this.closed, `${this.name} is still connected`)
    await this.client.endAsync(true)
  }

  // --- speaking ---------------------------------------------------------------------------------------------------

  /** Sends to `u/{peer}` or `g/{group}`; resolves with the ack, and throws if it is a refusal or PUBACK does not come. */
  async sends(conv: string, message: Sent, qos: 0 | 1 | 2 = 1): Promise<Ack> {
    const { body } = await this.#send(conv, message, qos)
    assert.equal(body.error, undefined, `${this.name} was refused on ${conv}: ${JSON.stringify(body.error)}`)
    assert.equal(body.conv, conv)
    return body as Ack
  }

  /** Sends what is refused with this code; checks the whole shape of the refusal and returns its message. */
  async isRefused(conv: string, message: Sent, code: string, qos: 0 | 1 | 2 = 1): Promise<string> {
    const { id, body } = await this.#send(conv, message, qos)
    const { error, ...rest } = body as Json & { error?: { code: string; message: string } }
    assert.equal(error?.code, code, `${this.name} on ${conv}: ${JSON.stringify(body)}`)
    assert.deepEqual(Object.keys(error ?? {}).sort(), ['code', 'message', ...(code === 'rate_limited' ? ['retry_after_ms'] : [])])
    assert.match(error?.message ?? '', /\S/)
    assert.deepEqual(rest, id === undefined ? { topic: `${conv}/msg` } : { id, topic: `${conv}/msg` })
    return error?.message ?? ''
  }

  async #send(conv: string, message: Sent, qos: 0 | 1 | 2): Promise<{ id: unknown; body: Json }> {
    const given = typeof message === 'string' ? { body: message } : message
    const sent = Buffer.isBuffer(given) ? given : { id: `${this.device}-${++messageIds}`, ...given }
    const id = Buffer.isBuffer(sent) ? undefined : sent.id
    const isId = typeof id === 'string' && id !== ''
    const answered = this.takes(
      `the ack of ${isId ? id : 'a send without id'}`,
      ({ topic, body }) => topic === this.topic('ack') && (!isId || body.id === id),
    )
    const payload = Buffer.isBuffer(sent) ? sent : Buffer.from(JSON.stringify(sent))
    await this.publishes(`${conv}/msg`, payload, qos)
    return { id: isId ? id : undefined, body: (await answered).body }
  }

  /** Resolves when the protocol has acknowledged. */
  async publishes(topic: string, payload: string | Buffer, qos: 0 | 1 | 2 = 1, retain = false as boolean): Promise<void> {
    await within(this.client.publishAsync(topic, payload, { qos, retain }), `no acknowledgement of a publish on ${topic}`)
  }

  /** A publish of any topic that is refused by ack; returns the error. */
  async isDenied(topic: string, payload: string | Buffer, code: string, retain = false as boolean): Promise<void> {
    await this.publishes(topic, payload, 1, retain)
    const { body } = await this.takes(`a refusal of ${topic}`, (arrival) => arrival.topic === this.topic('ack') && 'error' in arrival.body)
    assert.deepEqual([body.topic, (body.error as Json).code], [topic, code], JSON.stringify(body))
  }

  /** Says that everything up to `seq` is read. */
  async reads(conv: string, seq: number): Promise<void> {
    await this.publishes(`${conv}/read`, JSON.stringify({ seq }))
  }

  /** Calls a method; returns its result, and throws with the error's code in the message if it fails. */
  async calls<Result = Json>(method: string, params?: Json): Promise<Result> {
    const reply = await this.asks(method, params)
    assert.equal(reply.error, undefined, `${this.name} ${method}: ${JSON.stringify(reply.error)}`)
    return reply.result as Result
  }

  /** Calls what is refused with this code. */
  async callsInVain(method: string, params: Json | undefined, code: string): Promise<void> {
    const { error, result } = await this.asks(method, params)
    const said = `${this.name} ${method} ${JSON.stringify(params)}: ${JSON.stringify(error ?? result)}`
    assert.equal((error as Json | undefined)?.code, code, said)
    assert.equal(typeof (error as Json | undefined)?.message, 'string', said)
  }

  /** The whole reply. */
  async asks(method: string, params?: unknown, id: string | number = `call-${++callIds}`): Promise<Json> {
    const replied = this.takes(`the reply to ${method}`, ({ topic, body }) => topic === this.topic('rpc') && body.id === id)
    await this.publishes(`rpc/${method}`, JSON.stringify({ id, ...(params === undefined ? {} : { params }) }))
    return (await replied).body
  }

  // --- hearing ----------------------------------------------------------------------------------------------------

  /** Takes the next message, with `conv` the next of that conversation, and checks the fields that are named. */
  async receives(expected: Json): Promise<Json> {
    const { conv } = expected
    const arrival = await this.takes(
      `a message ${JSON.stringify(expected)}`,
      (each) => each.conv !== undefined && (conv === undefined || each.conv === conv),
    )
    assert.deepEqual({ ...pick({ ...arrival, ...arrival.body, conv: arrival.conv }, Object.keys(expected)) }, expected)
    assert.deepEqual([arrival.qos, arrival.retain], [1, false], 'messages come with QoS 1 and are not retained')
    return arrival.body
  }

  /** Takes `count` messages of a conversation; they must be `from`, `from + 1` … */
  async receivesRun(conv: string, from: number, count: number): Promise<Json[]> {
    const taken: Json[] = []
    for (let seq = from; seq < from + count; seq++) taken.push(await this.receives({ conv, seq }))
    return taken
  }

  /** Takes the next event and checks that it is this one. */
  async hears(expected: Json): Promise<void> {
    const { body } = await this.takes(
      `an event ${JSON.stringify(expected)}`,
      ({ topic, body }) => topic === this.topic('event') && (body.type !== 'receipt' || expected.type === 'receipt'),
    )
    assert.deepEqual(body, expected)
  }

  /** Takes the next message on an application topic. */
  async gets(topic: string, payload: string): Promise<Arrival> {
    const arrival = await this.takes(`a message on ${topic}`, (each) => each.topic === topic)
    assert.equal(arrival.body.text, payload)
    return arrival
  }

  /**
   * Nothing has come beside what was taken. The reply to a call is the fence: no session being behind the log, all that was
   * dispatched before stands before it on the wire.
   */
  async receivesNothing(): Promise<void> {
    await this.world.caughtUp()
    await this.calls('conversations', { limit: 1 })
    assert.deepEqual(this.inbox, [], `${this.name} received what nobody expected`)
  }

  // --- inside -----------------------------------------------------------------------------------------------------

  #arrived(topic: string, payload: Buffer, { qos, dup, retain, messageId }: IPublishPacket): void {
    const body = parse(payload)
    const arrival = { topic, body, qos, dup, retain, packetId: messageId, conv: this.#convOf(topic, body) }
    this.heard.push(arrival)
    for (const waiter of this.#waiters) if (waiter.wants(arrival)) return waiter.take(arrival)
    if (body.type !== 'receipt' || topic !== this.topic('event')) this.inbox.push(arrival)
    else this.#receipts.push(arrival)
  }

  #convOf(topic: string, { from, to }: Json): string | undefined {
    if (topic === this.topic('msg')) return `u/${from === this.user ? to : from}`
    return /^g\/[^/]+\/msg$/.test(topic) ? topic.slice(0, -'/msg'.length) : undefined
  }

  /** Takes the first arrival, of those not taken yet or to come, for which the predicate holds. */
  takes(what: string, wants: (arrival: Arrival) => boolean): Promise<Arrival> {
    for (const waiting of [this.inbox, this.#receipts]) {
      const at = waiting.findIndex(wants)
      if (at !== -1) return Promise.resolve(waiting.splice(at, 1)[0] as Arrival)
    }
    const answer = new Promise<Arrival>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        what,
        wants,
        take: (arrival) => {
          end()
          resolve(arrival)
        },
        fail: (error) => {
          end()
          reject(error)
        },
      }
      const late = () => waiter.fail(new Error(`${this.name} waited for ${what}; not taken: ${JSON.stringify(this.inbox.slice(0, 5))}`))
      const timer = setTimeout(late, waitMs)
      this.#waiters.add(waiter)
    })
    answer.catch(() => undefined) // It may fail while its caller still waits for a PUBACK, and is reported when awaited.
    return answer
  }
}

/** A payload that is not a JSON object is given as `text`. */
function parse(payload: Buffer): Json {
  const text = payload.toString()
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Json
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  return { text }
}

const pick = (from: Json, keys: readonly string[]): Json => Object.fromEntries(keys.map((key) => [key, from[key]]))

async function within<Value>(promise: Promise<Value>, complaint: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${complaint} after ${waitMs} ms`)), waitMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
