/**
 * HTTP routes of plugins: what is not a method because it carries bytes. The body is handed over as it comes, of any type and size; it may
 * take as long as it needs, but not stand still. Errors are answered as everywhere else.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type ErrorCode, Refusal } from './errors.js'
import type { Identity } from './plugin.js'

/** One request on a plugin's route. */
export interface HttpExchange {
  /** What stands for the `:names` of the path. */
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string | undefined>>
  readonly headers: IncomingHttpHeaders
  readonly body: Readable
  /** Who sends `Authorization: Bearer`; without a valid token it throws the Refusal that is answered with 401. */
  identify(): Promise<Identity>
}

/** A refusal whose status by HTTP says more than that of its code. */
export class HttpRefusal extends Refusal {
  constructor(
    readonly status: number,
    code: ErrorCode,
    message: string,
  ) {
    super(code, message)
  }
}

export interface HttpAnswer {
  status: number
  headers: Record<string, string | number>
  /** An object goes as JSON. */
  body?: object | Readable
}

export interface HttpRoute {
  method: 'GET' | 'HEAD' | 'PUT'
  /** Below /v1/, with `:names`, as `/v1/media/:id`. */
  path: string
  /** Of the OpenAPI document; undefined: not in it. */
  operation?: Record<string, unknown>
  /** Throws a Refusal for what the caller did wrong. It must bound what it reads of the body. */
  handle(exchange: HttpExchange): Promise<HttpAnswer>
}

/** A body, or a client that reads, must move by so much in PARLEY_SLOW_CLIENT_MS. */
const paceBytesMin = 64 * 1024
/** Of a body that is refused so much is read, for the client to hear why. */
const discardBytesMax = 1024 * 1024

export interface RoutesWorld {
  routes: readonly HttpRoute[]
  slowMs: number
  identify(request: FastifyRequest): Promise<Identity>
}

/** Adds the routes in a scope of their own, where no body is parsed. */
export function addRoutes(app: FastifyInstance, { routes, slowMs, identify }: RoutesWorld): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _body, done) => done(null))
    for (const { method, path, handle } of routes) {
      scope.route<{ Params: Record<string, string>; Querystring: Record<string, string | string[] | undefined> }>({
        method,
        url: path,
        exposeHeadRoute: false,
        handler: async (request, reply) => {
          const { raw } = request
          boundPace(raw, reply.raw, slowMs)
          try {
            const { status, headers, body } = await handle({
              params: request.params,
              query: onceEach(request.query),
              headers: request.headers,
              body: raw,
              identify: () => identify(request),
            })
            return reply.code(status).headers(headers).send(body)
          } catch (error) {
            await discard(raw)
            if (!raw.complete) reply.header('connection', 'close')
            throw error
          }
        },
      })
    }
  })
}

/** Of a name that is given several times the first counts. */
function onceEach(query: Record<string, string | string[] | undefined>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(query).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]))
}

/** Cuts off a body that stands still, and a reader of the answer that does. */
function boundPace(request: IncomingMessage, response: ServerResponse, slowMs: number): void {
  const { socket } = request
  const moved = (): number => (request.complete ? socket.bytesWritten : socket.bytesRead)
  let [before, wasComplete] = [moved(), request.complete]
  const timer = setInterval(() => {
    const now = moved()
    const isWaitedFor = !request.complete || socket.writableLength > 0
    if (isWaitedFor && request.complete === wasComplete && now - before < paceBytesMin) socket.destroy()
    before = now
    wasComplete = request.complete
  }, slowMs)
  response.once('close', () => clearInterval(timer))
}

async function discard(body: IncomingMessage): Promise<void> {
  if (body.complete || body.destroyed || Number(body.headers['content-length']) > discardBytesMax) return
  let bytes = 0
  for await (const chunk of body.iterator({ destroyOnReturn: false })) {
    bytes += (chunk as Buffer).length
    if (bytes > discardBytesMax) return
  }
}
