/**
 * A server of a test's own, with a cast: on any free port, with a data folder that is removed at the end, without rate limits
 * and logs. Actors speak through mqtt.js, raw clients send single packets, `http` calls the HTTP side.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { createServer, mintToken, type Server, type ServerOptions } from '../../broker/index.js'
import { Actor, type ActorOptions, type ActorWorld, type Json } from './actor.js'
import { eventually } from './eventually.js'
import { connectRaw, type RawClient, type RawOptions } from './raw-client.js'

export { Actor, type Json } from './actor.js'

const secret = 'the-secret-of-all-stages-in-tests'

export interface Answer {
  status: number
  body: Json
}

export interface HttpCall {
  /** Sends `Authorization: Bearer …`. */
  token?: string
  body?: unknown
  /** In place of the JSON of `body`. */
  text?: string
  headers?: Record<string, string>
}

export class Stage implements ActorWorld {
  readonly #actors: Actor[] = []
  readonly #raws: RawClient[] = []

  constructor(
    public server: Server,
    readonly options: ServerOptions,
  ) {}

  get mqttPort(): number {
    return this.server.mqttPort ?? 0
  }

  get httpPort(): number {
    return this.server.httpPort
  }

  token(user: string, claims: { expiresInSeconds?: number; scope?: string } = {}): Promise<string> {
    return mintToken({ secret, user, expiresInSeconds: 3_600, ...claims })
  }

  adminToken(): Promise<string> {
    return this.token('', { scope: 'admin' })
  }

  /** A connected actor that has heard `ready`. */
  actor(user: string, options: ActorOptions = {}): Promise<Actor> {
    return this.absent(user, options).connects()
  }

  /** An actor that is yet to connect. */
  absent(user: string, options: ActorOptions = {}): Actor {
    const actor = new Actor(user, options, this)
    this.#actors.push(actor)
    return actor
  }

  /** One actor for each name, with the same options. */
  cast<Names extends readonly string[]>(names: readonly [...Names], options: ActorOptions = {}): Promise<{ [K in keyof Names]: Actor }> {
    return Promise.all(names.map((name) => this.actor(name, options))) as Promise<{ [K in keyof Names]: Actor }>
  }

  /** A low-level client of a user; the CONNECT has been accepted. */
  async raw(user: string, options: Partial<RawOptions> = {}): Promise<RawClient> {
    const client = await connectRaw({
      port: options.transport === 'ws' ? this.httpPort : this.mqttPort,
      clientId: 'raw',
      username: user,
      password: await this.token(user),
      ...options,
    })
    this.#raws.push(client)
    return client
  }

  async http(method: string, path: string, { token, body, text, headers = {} }: HttpCall = {}): Promise<Answer> {
    const content = text ?? (body === undefined ? undefined : JSON.stringify(body))
    const response = await fetch(`http://127.0.0.1:${this.httpPort}${path}`, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(content === undefined ? {} : { body: content }),
    })
    const answer = await response.text()
    return { status: response.status, body: answer.startsWith('{') ? (JSON.parse(answer) as Json) : { text: answer } }
  }

  /** A call of /v1/admin that must succeed. */
  async admin(method: string, path: string, body?: unknown): Promise<Json> {
    const answer = await this.http(method, `/v1/admin${path}`, { token: await this.adminToken(), body })
    assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  /** The lines of a user's export; `end` must be the last. */
  async exported(user: string): Promise<Json[]> {
    const response = await fetch(`http://127.0.0.1:${this.httpPort}/v1/admin/users/${user}/export`, {
      headers: { authorization: `Bearer ${await this.adminToken()}` },
    })
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'application/x-ndjson'])
    const lines = (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Json)
    assert.deepEqual(lines.pop(), { kind: 'end', lines: lines.length })
    return lines
  }

  /** Erases a user, and resolves when all of it is done. */
  async erases(user: string): Promise<void> {
    await eventually(async () => (await this.admin('DELETE', `/users/${user}`)).done, { timeoutMs: 20_000, what: `${user} is erased` })
  }

  async metric(name: string): Promise<number> {
    const { body } = await this.http('GET', '/metrics')
    const line = String(body.text)
      .split('\n')
      .find((each) => each.startsWith(`${name} `))
    assert(line !== undefined, `there is no metric ${name}`)
    return Number(line.slice(name.length + 1))
  }

  async caughtUp(): Promise<void> {
    await eventually(async () => (await this.metric('parley_sessions_behind')) + (await this.metric('parley_log_waiting')) === 0, {
      timeoutMs: 20_000,
      what: 'no session is behind',
    })
  }

  /** Resolves in a later millisecond: what is sent then is newer. */
  async clockMoves(): Promise<void> {
    for (const now = Date.now(); Date.now() === now; ) await new Promise((resolve) => setImmediate(resolve))
  }

  /** Closes the server in order and starts it again on the same data; everybody is disconnected. */
  async restart(): Promise<void> {
    await this.server.close()
    this.server = await createServer(this.options)
  }

  /** Starts the server, which was closed, with other options. */
  async moves(options: ServerOptions): Promise<void> {
    this.server = await createServer({ ...this.options, ...options })
  }

  /** Everybody goes, then the server. */
  async ends(): Promise<void> {
    for (const raw of this.#raws) raw.reset()
    await Promise.all(this.#actors.map((actor) => actor.leaves()))
    await this.server.close()
  }
}

/** Starts a server that ends with the test. */
export async function stage(t: Test, options: ServerOptions = {}): Promise<Stage> {
  const dataDir = await mkdtemp(join(tmpdir(), 'parley-stage-'))
  const all: ServerOptions = { mqttPort: 0, httpPort: 0, dataDir, logLevel: 'silent', rateLimit: undefined, jwtSecret: secret, ...options }
  const created = new Stage(await createServer(all), all)
  t.teardown(async () => {
    await created.ends()
    await rm(dataDir, { recursive: true, force: true })
  })
  return created
}

/** Random numbers that can be had again: the seed is printed, and PARLEY_TEST_SEED sets it. */
export function seeded(t: Test): { next(): number; below(limit: number): number } {
  const seed = Number(process.env.PARLEY_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return { next, below: (limit) => Math.floor(next() * limit) }
}
