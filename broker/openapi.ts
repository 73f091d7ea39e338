/**
 * The OpenAPI 3.1 document of the methods and the admin API, made of the same schemas that judge the calls, and of the other routes of
 * plugins, which describe themselves. Served at /v1/openapi.json.
 */
import type { TSchema } from 'typebox'
import type { AdminCall } from './admin-api.js'
import { errorCodes } from './errors.js'
import type { HttpRoute } from './http-route.js'
import type { Method } from './plugin.js'

type Json = Record<string, unknown>

const json = (schema: object): Json => ({ 'application/json': { schema } })
/** What typebox keeps beside JSON Schema is not enumerable, or goes with this. */
const plain = (schema: TSchema): Json => JSON.parse(JSON.stringify(schema)) as Json

/** One response for each HTTP status that an error of errors.ts has. */
function errorResponses(): Json {
  const byStatus = new Map<number, string[]>()
  for (const [code, { http, means }] of Object.entries(errorCodes)) {
    byStatus.set(http, [...(byStatus.get(http) ?? []), `\`${code}\`: ${means}`])
  }
  byStatus.set(401, ['no token, or none that is valid'])
  const error = json({ $ref: '#/components/schemas/Error' })
  return Object.fromEntries([...byStatus].map(([status, words]) => [status, { description: words.join('; '), content: error }]))
}

const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message'],
      properties: {
        code: { type: 'string', enum: Object.keys(errorCodes) },
        message: { type: 'string' },
        retry_after_ms: { type: 'number', description: 'when to send again' },
      },
    },
  },
}

function callOperation(tag: string, id: string, params: TSchema, result: TSchema | undefined): Json {
  return {
    tags: [tag],
    operationId: id,
    requestBody: { content: json(plain(params)) },
    responses: {
      200: { description: 'the result', content: json(result === undefined ? { type: 'object' } : plain(result)) },
      ...errorResponses(),
    },
  }
}

/** `/users/:id` → `/users/{id}`, and the parameters that it names. */
function pathOf(path: string): { path: string; parameters: Json[] } {
  const names = [...path.matchAll(/:(\w+)/g)].map(([, name]) => name as string)
  const parameters = names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } }))
  return { path: path.replaceAll(/:(\w+)/g, '{$1}'), parameters }
}

export function createOpenApi(
  methods: ReadonlyMap<string, Method>,
  adminCalls: readonly AdminCall[],
  routes: readonly HttpRoute[],
): object {
  const paths: Record<string, Json> = {}
  const add = (fastifyPath: string, verb: string, operation: Json): void => {
    const { path, parameters } = pathOf(fastifyPath)
    const before = paths[path] ?? (parameters.length > 0 ? { parameters } : {})
    paths[path] = { ...before, [verb.toLowerCase()]: operation }
  }
  for (const [name, { params, result }] of methods) add(`/v1/rpc/${name}`, 'POST', callOperation('methods', name, params, result))
  for (const { method, path, schema, result } of adminCalls) {
    const id = `admin.${method.toLowerCase()}${path.replaceAll(/\/:?/g, '.')}`
    const { requestBody, ...operation } = callOperation('admin', id, schema, result)
    add(`/v1/admin${path}`, method, method === 'GET' ? operation : { ...operation, requestBody })
  }
  for (const { method, path, operation } of routes) {
    if (operation === undefined) continue
    add(path, method, { ...operation, responses: { ...errorResponses(), ...(operation.responses as Json) } })
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Parley', version: '1', description: 'The methods of topics.md by HTTP, and the admin API.' },
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
      schemas: { Error: errorSchema },
    },
  }
}
