/**
 * One session over MQTT.js: connects, connects again after a pause that grows, carries publishes and calls, and says in which
 * state it is. Each attempt is a new MQTT client, so nothing is sent twice behind the back of the chat client, which
 * repeats what was not acknowledged under its old id.
 */
import type { Credentials } from './credentials.js'
import mqtt, { type MqttClient } from './mqtt.js'
import { type ErrorBody, kindOf, methodTopic, type RpcReply, randomName } from './protocol.js'

export type LinkState =
  | { kind: 'connecting' }
  | { kind: 'online' }
  /** `retryAt` is in ms since the epoch. */
  | { kind: 'offline'; retryAt: number }
  /** The server does not want these credentials; there is no retry. */
  | { kind: 'refused'; why: string }

export interface ConnectionListener {
  linkChanged(state: LinkState): void
  /** `payload` is what JSON.parse gave. */
  received(kind: 'ack' | 'event' | 'message' | 'typing' | 'presence', payload: unknown, topic: string): void
}

/** A call that the server refused, or that got no answer. */
export class CallError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

interface Call {
  resolve(result: object): void
  reject(error: CallError): void
  timer: number
}

const keepaliveSeconds = 60
const connectTimeoutMs = 10_000
const callTimeoutMs = 20_000
const pauseMsMin = 500
const pauseMsMax = 15_000

const refusals: Record<number, string> = {
  2: 'The server refused the name of this device.',
  4: 'The server refused the token: it is not valid, has expired, or belongs to another user.',
  5: 'The server does not let this user in.',
}

export class Connection {
  state: LinkState = { kind: 'connecting' }
  readonly #credentials: Credentials
  readonly #device: string
  readonly #url: string
  readonly #listener: ConnectionListener
  #client: MqttClient | undefined
  #pauseMs = pauseMsMin
  #retryTimer: number | undefined
  #calls = new Map<string, Call>()

  constructor(credentials: Credentials, device: string, url: string, listener: ConnectionListener) {
    this.#credentials = credentials
    this.#device = device
    this.#url = url
    this.#listener = listener
  }

  open(): void {
    clearTimeout(this.#retryTimer)
    this.#become({ kind: 'connecting' })
    const client = mqtt.connect(this.#url, {
      username: this.#credentials.user,
      password: this.#credentials.token,
      clientId: this.#device,
      clean: true,
      keepalive: keepaliveSeconds,
      connectTimeout: connectTimeoutMs,
      reconnectPeriod: 0,
      timerVariant: 'native',
    })
    this.#client = client
    client.on('connect', () => {
      if (client !== this.#client) return
      this.#pauseMs = pauseMsMin
      this.#become({ kind: 'online' })
    })
    client.on('message', (topic, payload) => {
      if (client === this.#client) this.#receive(topic, payload)
    })
    client.on('error', ({ code }) => {
      const why = typeof code === 'number' ? refusals[code] : undefined
      if (client !== this.#client || why === undefined) return
      this.close()
      this.#become({ kind: 'refused', why })
    })
    client.on('close', () => {
      if (client === this.#client) this.#lost()
    })
  }

  close(): void {
    clearTimeout(this.#retryTimer)
    const client = this.#client
    this.#client = undefined
    client?.end(true)
    this.#rejectCalls()
  }

  /** Does not wait for the end of the pause. */
  retryNow(): void {
    if (this.state.kind === 'offline') this.open()
  }

  get isOnline(): boolean {
    return this.state.kind === 'online'
  }

  /** Only while online; what is lost with the connection is for the caller to repeat. */
  publish(topic: string, payload: object): void {
    if (this.isOnline) this.#client?.publish(topic, JSON.stringify(payload), { qos: 1 })
  }

  /** Of use only now: dropped when there is no connection, and never repeated. */
  signal(topic: string, payload: object): void {
    if (this.isOnline) this.#client?.publish(topic, JSON.stringify(payload), { qos: 0 })
  }

  /** Until the end of this connection. */
  subscribe(filter: string): void {
    if (this.isOnline) this.#client?.subscribe(filter, { qos: 0 })
  }

  /** Rejects with a CallError. */
  call<Result extends object>(method: string, params: object): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (!this.isOnline) return reject(new CallError('offline', 'There is no connection to the server.'))
      const id = `r-${randomName(8)}`
      const timer = setTimeout(() => this.#answer(id, { code: 'timeout', message: 'The server did not answer in time.' }), callTimeoutMs)
      this.#calls.set(id, { resolve: (result) => resolve(result as Result), reject, timer })
      this.publish(methodTopic(method), { id, params })
    })
  }

  #become(state: LinkState): void {
    this.state = state
    this.#listener.linkChanged(state)
  }

  #lost(): void {
    this.#client?.end(true)
    this.#client = undefined
    this.#rejectCalls()
    const pauseMs = this.#pauseMs * (0.7 + Math.random() * 0.6)
    this.#pauseMs = Math.min(pauseMsMax, this.#pauseMs * 2)
    this.#retryTimer = setTimeout(() => this.open(), pauseMs)
    this.#become({ kind: 'offline', retryAt: Date.now() + pauseMs })
  }

  #receive(topic: string, bytes: Uint8Array): void {
    const kind = kindOf(topic, this.#credentials.user)
    if (kind === undefined) return
    const payload: unknown = JSON.parse(new TextDecoder().decode(bytes))
    if (kind !== 'rpc') return this.#listener.received(kind, payload, topic)
    const { id = '', result = {}, error } = payload as RpcReply
    this.#answer(id, error ?? result)
  }

  #answer(id: string, outcome: ErrorBody | object): void {
    const call = this.#calls.get(id)
    if (call === undefined) return
    this.#calls.delete(id)
    clearTimeout(call.timer)
    if ('code' in outcome && 'message' in outcome) call.reject(new CallError(String(outcome.code), String(outcome.message)))
    else call.resolve(outcome)
  }

  #rejectCalls(): void {
    for (const id of [...this.#calls.keys()]) this.#answer(id, { code: 'offline', message: 'The connection to the server was lost.' })
  }
}
