/**
 * CORS for /v1: pages of the origins in PARLEY_ALLOWED_ORIGINS may call, upload and play, as they may open a WebSocket. No cookie is ever
 * used, so an origin that is not listed learns nothing and only its browser is told no.
 */
import type { FastifyInstance } from 'fastify'

const preflightHeaders = {
  'access-control-allow-methods': 'GET, HEAD, POST, PUT, DELETE',
  'access-control-allow-headers': 'authorization, content-type, if-none-match, if-range, range',
  'access-control-max-age': '7200',
}
const exposed = 'accept-ranges, content-disposition, content-length, content-range, etag, retry-after'

export function addCors(app: FastifyInstance, allowedOrigins: readonly string[]): void {
  if (allowedOrigins.length === 0) return
  app.addHook('onRequest', async ({ url, headers, method }, reply) => {
    if (!url.startsWith('/v1/')) return
    reply.header('vary', 'Origin')
    const { origin } = headers
    if (origin === undefined || !allowedOrigins.includes(origin)) return
    reply.headers({ 'access-control-allow-origin': origin, 'access-control-expose-headers': exposed })
    if (method === 'OPTIONS') return reply.code(204).headers(preflightHeaders).send()
  })
}
