/**
 * The one table of refusals. Every error that a client sees, by ack, by RPC reply or by HTTP, carries one of
 * these codes; topics.md lists the same table and a test holds the two equal.
 */
export const errorCodes = {
  invalid: { http: 400, retry: false, means: 'the request is malformed; sending it again will fail again' },
  too_large: { http: 413, retry: false, means: 'the payload is over the limit that the message names' },
  forbidden: { http: 403, retry: false, means: 'this user may not do this' },
  blocked: { http: 403, retry: false, means: 'the receiver has blocked the sender' },
  not_found: { http: 404, retry: false, means: 'no such user, group, conversation, method or topic' },
  muted: { http: 403, retry: false, means: 'the sender is muted in this group' },
  conflict: { http: 409, retry: false, means: 'the id is already used for something else' },
  rate_limited: { http: 429, retry: true, means: 'too many requests; retry after `retry_after_ms`' },
  busy: { http: 503, retry: true, means: 'the server is overloaded; retry with a delay' },
  unavailable: { http: 503, retry: true, means: 'the store cannot be reached; nothing was accepted' },
  internal: { http: 500, retry: true, means: 'a fault of the server; it is in its log' },
} as const

export type ErrorCode = keyof typeof errorCodes

/** What a client sees of a refusal. */
export interface ErrorBody {
  code: ErrorCode
  message: string
  retry_after_ms?: number
}

/** A request that is refused: part of the protocol, not a fault. Carries no stack for the log. */
export class Refusal extends Error {
  readonly code: ErrorCode
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, message: string, retryAfterMs?: number) {
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(message)
    Error.stackTraceLimit = limit
    this.name = 'Refusal'
    this.code = code
    this.retryAfterMs = retryAfterMs
  }

  body(): ErrorBody {
    return this.retryAfterMs === undefined
      ? { code: this.code, message: this.message }
      : { code: this.code, message: this.message, retry_after_ms: this.retryAfterMs }
  }
}

export const refuse = (code: ErrorCode, message: string, retryAfterMs?: number): Refusal => new Refusal(code, message, retryAfterMs)
