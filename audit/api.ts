/**
 * The server's HTTP side as the audit uses it: methods as a user, the admin API to make users known, tokens. Tokens that
 * live long are kept, one for each user.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { mintToken } from '../broker/token.js'
import type { AuditNode, Deployment } from './deployment.js'

export interface Answer {
  status: number
  body: Record<string, unknown>
}

const keptSecondsMin = 3_600
const patienceMs = 20_000
const retryMs = 500
const callMsMax = 20_000
/** On a busy machine the store that stands in for MongoDB takes its time to read everything back. */
const readMsMax = 60_000

export class Api {
  readonly #deployment: Deployment
  readonly #tokens = new Map<string, Promise<string>>()
  readonly #random: (below: number) => number

  constructor(deployment: Deployment, random: (below: number) => number) {
    this.#deployment = deployment
    this.#random = random
  }

  token = (user: string, lifeSeconds: number): Promise<string> => {
    const kept = this.#tokens.get(user)
    if (kept !== undefined && lifeSeconds >= keptSecondsMin) return kept
    const { secret } = this.#deployment
    const minted = mintToken({ secret, user, expiresInSeconds: lifeSeconds })
    if (lifeSeconds >= keptSecondsMin) this.#tokens.set(user, minted)
    return minted
  }

  /** Any node that is up. */
  node(): AuditNode | undefined {
    const up = this.#deployment.nodes.filter(({ isUp }) => isUp)
    return up[this.#random(Math.max(1, up.length))]
  }

  /** Undefined when no answer came. */
  async call(user: string, method: string, params: object, msMax = callMsMax): Promise<Answer | undefined> {
    return this.#post(`rpc/${method}`, await this.token(user, keptSecondsMin * 6), params, msMax)
  }

  /** As `call`; asked again while the answer is that the store cannot be reached now. */
  async callPatiently(user: string, method: string, params: object): Promise<Answer | undefined> {
    for (const deadlineMs = performance.now() + patienceMs; ; ) {
      const answer = await this.call(user, method, params, readMsMax)
      if (answer?.status !== 503 || performance.now() > deadlineMs) return answer
      await delay(retryMs)
    }
  }

  /** As `callPatiently`; throws unless the answer is a result. */
  async rpc(user: string, method: string, params: object): Promise<Record<string, unknown>> {
    const answer = await this.callPatiently(user, method, params)
    if (answer?.status !== 200) throw new Error(`${method} for ${user} was answered by ${JSON.stringify(answer ?? 'nothing')}`)
    return answer.body
  }

  /** The bytes to a URL that the server gave, on any node; its status, undefined when no answer came. */
  async put(url: string, bytes: Buffer): Promise<number | undefined> {
    return (await this.#fetch(url, { method: 'PUT', body: bytes }))?.status
  }

  /** Asked again while it cannot be had now. */
  async get(user: string, url: string): Promise<{ status: number; bytes: Buffer } | undefined> {
    const headers = { authorization: `Bearer ${await this.token(user, keptSecondsMin * 6)}` }
    for (const deadlineMs = performance.now() + patienceMs; ; ) {
      const answer = await this.#fetch(url, { headers })
      if ((answer?.status ?? 503) < 500 || performance.now() > deadlineMs) return answer
      await delay(retryMs)
    }
  }

  async #fetch(url: string, init: RequestInit): Promise<{ status: number; bytes: Buffer } | undefined> {
    const node = this.node()
    if (node === undefined) return undefined
    const { pathname, search } = new URL(url, 'http://127.0.0.1')
    try {
      const signal = AbortSignal.timeout(callMsMax)
      const response = await fetch(`http://127.0.0.1:${node.httpPort}${pathname}${search}`, { ...init, signal })
      return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) }
    } catch (error) {
      if (error instanceof TypeError || (error as Error).name === 'TimeoutError') return undefined
      throw error
    }
  }

  async addUsers(users: readonly string[]): Promise<void> {
    const { secret } = this.#deployment
    const token = await mintToken({ secret, user: '', expiresInSeconds: keptSecondsMin, scope: 'admin' })
    const answer = await this.#post('admin/users', token, { users })
    if (answer?.status !== 200) throw new Error(`users could not be added: ${JSON.stringify(answer ?? 'no answer')}`)
  }

  async #post(path: string, token: string, body: object, msMax = callMsMax): Promise<Answer | undefined> {
    const node = this.node()
    if (node === undefined) return undefined
    try {
      const response = await fetch(`http://127.0.0.1:${node.httpPort}/v1/${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(msMax),
      })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    } catch (error) {
      if (error instanceof TypeError || (error as Error).name === 'TimeoutError' || error instanceof SyntaxError) return undefined
      throw error
    }
  }
}
