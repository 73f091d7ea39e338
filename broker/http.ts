/**
 * HTTP, or HTTPS when there is a certificate: health, metrics, `POST /v1/rpc/{method}` with the same handlers as MQTT, the admin API, and the chat page. Every /v1 call
 * needs `Authorization: Bearer <token>`; errors are `{"error":{"code","message"}}` with the status of errors.ts.
 */
import { isUtf8 } from 'node:buffer'
import type { Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifyServerFactory } from 'fastify'
import type { AddressLimits } from './address-limits.js'
import type { AdminApi } from './admin-api.js'
import type { Certificate } from './certificate.js'
import type { Config } from './config.js'
import { addCors } from './cors.js'
import { errorCodes, Refusal, refuse } from './errors.js'
import { addRoutes, HttpRefusal } from './http-route.js'
import type { Logger } from './logger.js'
import { answerMalformed } from './malformed-request.js'
import type { Metrics } from './metrics.js'
import { createOpenApi } from './openapi.js'
import type { Identity } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import type { TrustedProxies } from './trusted-proxies.js'

export interface HttpWorld {
  config: Config
  logger: Logger
  metrics: Metrics
  plugins: PluginHost
  admin: AdminApi
  proxies: TrustedProxies
  addresses: AddressLimits
  /** A first call makes a user known, as a first connect does. */
  ensureUser(identity: Identity): Promise<void>
  /** Undefined: no TLS. */
  certificate: Certificate | undefined
  /** Why no message can be accepted now; undefined when they can. */
  notReady(): Promise<string | undefined>
}

const headersMs = 10_000
const bodyMs = 30_000
const keepAliveMs = 72_000
const pageHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self' ws: wss:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}

export function createHttp(world: HttpWorld): FastifyInstance {
  const app = fastify({
    bodyLimit: world.config.packetBytesMax,
    keepAliveTimeout: keepAliveMs,
    http: { requestTimeout: 0, headersTimeout: headersMs },
    forceCloseConnections: true,
    logger: false,
    frameworkErrors: (error, _request, reply) => void sendRefusal(reply, toRefusal(error, world.logger)),
    clientErrorHandler: answerMalformed,
    ...(world.certificate === undefined ? {} : { serverFactory: secureServers(world.certificate, world) }),
  })
  app.server.headersTimeout = headersMs
  // It knows no exception, and an upload may take longer: see boundBody.
  app.server.requestTimeout = 0
  app.server.maxConnections = world.config.connectionsMax
  app.setErrorHandler((error: Error & { statusCode?: number }, { raw }, reply) => {
    // Nobody is there to be answered, and it is no fault of the server.
    if (raw.destroyed && !raw.complete) return reply.hijack()
    return sendRefusal(reply, toRefusal(error, world.logger))
  })
  app.setNotFoundHandler((request, reply) =>
    sendRefusal(reply, refuse('not_found', `there is nothing at ${request.method} ${request.url.split('?')[0]}`)),
  )
  // The body is JSON, whatever a client calls it; no browser sends a bearer token unasked.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body: Buffer, done) => {
    if (!isUtf8(body)) return done(refuse('invalid', 'the body is not UTF-8'))
    try {
      done(null, body.length === 0 ? {} : JSON.parse(body.toString()))
    } catch {
      done(refuse('invalid', 'the body is not JSON'))
    }
  })
  addAddressLimit(app, world)
  addCors(app, world.config.allowedOrigins)
  addHealth(app, world)
  addCalls(app, world)
  addRoutes(app, {
    routes: world.plugins.httpRoutes,
    slowMs: world.config.slowClientMs,
    identify: (request) => identify(request, world),
  })
  addPage(app)
  return app
}

/** Fastify makes a server for each address of a name such as localhost; each of them gets the certificates to come. */
function secureServers(certificate: Certificate, { config, logger }: HttpWorld): FastifyServerFactory<Server> {
  const times = { requestTimeout: 0, headersTimeout: headersMs, keepAliveTimeout: keepAliveMs, handshakeTimeout: config.connectTimeoutMs }
  return (handle) => {
    const server = createHttpsServer({ ...certificate.options, ...times, noDelay: true }, handle)
    // Also those whose handshake is going on.
    server.maxConnections = config.connectionsMax
    server.on('tlsClientError', (error, { remoteAddress }) =>
      logger.debug({ err: error, address: remoteAddress }, 'a TLS handshake failed'),
    )
    return certificate.serve(server)
  }
}

const unauthenticated = (message: string): Refusal => new HttpRefusal(401, 'forbidden', message)

/** With what is still to come of the body the connection ends, too. */
function sendRefusal(reply: FastifyReply, refusal: Refusal): FastifyReply {
  if (!reply.request.raw.complete) reply.header('connection', 'close')
  if (refusal.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(refusal.retryAfterMs / 1000))
  const status = refusal instanceof HttpRefusal ? refusal.status : errorCodes[refusal.code].http
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  return reply.code(status).send({ error: refusal.body() })
}

function toRefusal(error: Error & { statusCode?: number }, logger: Logger): Refusal {
  if (error instanceof Refusal) return error
  if (error.name === 'StoreUnavailable') return refuse('unavailable', 'the store cannot be reached')
  const status = error.statusCode ?? 500
  if (status === 413) return refuse('too_large', error.message)
  // What leads out of the folder of the page.
  if (status === 403) return refuse('not_found', 'there is nothing at this path')
  if (status < 500) return refuse('invalid', error.message)
  logger.error({ err: error }, 'an HTTP request failed')
  return refuse('internal', 'a fault of the server; it has been logged')
}

/** The body of a call comes within `bodyMs`; a handler is not called before. */
async function boundBody({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  const late = setTimeout(() => {
    if (!raw.complete) raw.socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n', () => raw.destroy())
  }, bodyMs)
  // The request itself tells nothing of its end when nobody reads it.
  reply.raw.once('close', () => clearTimeout(late))
}

function addHealth(app: FastifyInstance, { metrics, notReady }: HttpWorld): void {
  app.get('/healthz', () => ({ status: 'ok' }))
  app.get('/readyz', async (_request, reply) => {
    const why = await notReady()
    return why === undefined ? { status: 'ready' } : reply.code(503).send({ status: 'not ready', why })
  })
  app.get('/metrics', async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()))
}

/** What an orchestrator asks is always answered. */
const unlimitedPaths: ReadonlySet<string> = new Set(['/healthz', '/readyz'])

function addAddressLimit(app: FastifyInstance, { proxies, addresses }: HttpWorld): void {
  app.addHook('onRequest', async ({ raw }) => {
    if (unlimitedPaths.has(raw.url ?? '')) return
    const waitMs = addresses.requestWaitMs(proxies.clientOfRequest(raw))
    if (waitMs > 0) throw refuse('rate_limited', `too many requests from your address; try again in ${waitMs} ms`, waitMs)
  })
}

async function identify({ headers, raw }: FastifyRequest, { plugins, proxies, addresses }: HttpWorld): Promise<Identity> {
  const [scheme, token] = (headers.authorization ?? '').split(' ')
  if (scheme?.toLowerCase() !== 'bearer' || token === undefined) throw unauthenticated('send Authorization: Bearer <token>')
  const address = proxies.clientOfRequest(raw)
  const waitMs = addresses.loginWaitMs(address, '')
  if (waitMs > 0) throw refuse('rate_limited', `too many failed logins from your address; try again in ${waitMs} ms`, waitMs)
  const identity = await plugins.authenticate(token)
  if (!(identity instanceof Refusal)) return identity
  if (identity.code !== 'forbidden') throw identity
  addresses.loginFailed(address, '')
  throw unauthenticated(identity.message)
}

function addCalls(app: FastifyInstance, world: HttpWorld): void {
  const identities = new WeakMap<FastifyRequest, Identity>()
  // Nobody's body is waited for before it is known whose it is.
  const onRequest = [
    boundBody,
    async (request: FastifyRequest): Promise<void> => void identities.set(request, await identify(request, world)),
  ]
  const callerOf = (request: FastifyRequest): Identity => identities.get(request) as Identity
  const { metrics, plugins, admin } = world
  const openApi = createOpenApi(plugins.methods, admin.calls, plugins.httpRoutes)
  app.get('/v1/openapi.json', () => openApi)
  app.post<{ Params: { method: string } }>('/v1/rpc/:method', { onRequest }, async (request, reply) => {
    const identity = callerOf(request)
    const { user } = identity
    if (user === '') throw refuse('forbidden', 'the token names no user')
    const caller = { user, device: '' }
    const refusal = plugins.authorizeCall(caller)
    if (refusal === undefined) await world.ensureUser(identity)
    const result = refusal ?? (await plugins.call(request.params.method, caller, request.body ?? {}))
    metrics.rpcCalls.inc({ result: result instanceof Refusal ? result.code : 'ok' })
    return result instanceof Refusal ? sendRefusal(reply, result) : result
  })
  for (const { method, path, handle } of admin.calls) {
    app.route<{ Params: Record<string, string> }>({
      method,
      url: `/v1/admin${path}`,
      onRequest,
      handler: async (request, reply) => {
        if (!callerOf(request).admin) throw refuse('forbidden', 'this needs a token whose scope is admin')
        const answer = await handle(request.params, request.body ?? {})
        return answer instanceof Readable ? reply.type('application/x-ndjson').send(answer) : answer
      },
    })
  }
}

function addPage(app: FastifyInstance): void {
  const here = dirname(fileURLToPath(import.meta.url))
  const mqttjs = createRequire(import.meta.url).resolve('mqtt/dist/mqtt.esm')
  app.register(fastifyStatic, {
    root: join(here, '../web'),
    setHeaders: (reply) => void Object.entries(pageHeaders).map(([name, value]) => reply.setHeader(name, value)),
  })
  app.get('/mqtt.js', (_request, reply) => reply.sendFile('mqtt.esm.js', dirname(mqttjs)))
}
