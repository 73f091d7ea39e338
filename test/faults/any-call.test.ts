/**
 * Calls of every method, admin call and route that the OpenAPI document lists, with parameters of every shape: near to what the schema says and
 * far from it. Whatever the answer is, it is none of a fault, and nothing of a fault is logged. PARLEY_TEST_SEED repeats a run.
 */
import t from 'tap'
import { createRandom, newSeed } from '../contract/entries.js'
import { eventually } from '../helper/eventually.js'
import { startServer, tokenOf } from '../helper/server-process.js'

const calls = 900
const lanes = 6
t.setTimeout(180_000)

interface Schema {
  type?: string
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  patternProperties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minimum?: number
  maximum?: number
}

interface Operation {
  operationId?: string
  parameters?: { name: string; in: string }[]
  requestBody?: { content: Record<string, { schema?: Schema }> }
}

type Random = (below: number) => number

const users = ['ann', 'ben', 'cat']
const own = [...users, ...users.map((user) => `u/${user}`), 'g0', 'g1', 'g/g0', 'g/g1', 'owner', 'busy', 'image/png', 'MA']
const odd = ['', '__proto__', 'constructor', 'u/__proto__', 'g/', '\u0000', '\ud800', '../x', '%zz', '@all', 'x'.repeat(300), '👩‍👩‍👧']
const numbers = [0, -0, 1, -1, 2, 1.5, 1e308, 2 ** 53 - 1, 2 ** 53, 1_700_000_000_000]

function makers(random: Random) {
  const pick = <Value>(list: readonly Value[]): Value => list[random(list.length)] as Value
  const word = (): string => pick(random(3) === 0 ? odd : own)

  const anything = (depth: number): unknown => {
    switch (random(depth > 3 ? 4 : 6)) {
      case 0:
        return null
      case 1:
        return random(2) === 0
      case 2:
        return pick(numbers)
      case 4:
        return Array.from({ length: random(4) }, () => anything(depth + 1))
      case 5:
        return Object.fromEntries(Array.from({ length: random(4) }, () => [word(), anything(depth + 1)]))
      default:
        return word()
    }
  }

  const objectOf = ({ properties = {}, patternProperties = {}, required = [] }: Schema, depth: number): object => {
    const fields: [string, unknown][] = []
    for (const [name, schema] of Object.entries(properties))
      if (random(required.includes(name) ? 15 : 2) > 0) fields.push([name, make(schema, depth + 1)])
    for (const schema of Object.values(patternProperties))
      for (let n = random(4); n > 0; n--) fields.push([word(), make(schema, depth + 1)])
    if (random(30) === 0) fields.push([word(), anything(depth + 1)])
    return Object.fromEntries(fields)
  }

  const make = (schema: Schema | undefined, depth = 0): unknown => {
    if (schema === undefined || random(25) === 0) return anything(depth)
    if (schema.enum !== undefined) return pick(schema.enum)
    if (schema.const !== undefined) return schema.const
    if (schema.anyOf !== undefined) return make(pick(schema.anyOf), depth)
    if (schema.type === 'object') return objectOf(schema, depth)
    if (schema.type === 'array') return Array.from({ length: random(5) }, () => make(schema.items, depth + 1))
    if (schema.type === 'boolean') return random(2) === 0
    if (schema.type === 'integer') return pick([schema.minimum ?? 0, schema.maximum ?? 9, random(50), pick(numbers)])
    return schema.type === 'string' ? word() : anything(depth)
  }

  /** A name that is given twice is as good as any other. */
  const query = (parameters: Operation['parameters'] = []): string => {
    const given = parameters.filter((parameter) => parameter.in === 'query').flatMap(({ name }) => Array(random(3)).fill(name) as string[])
    return given.length === 0 ? '' : `?${given.map((name) => `${name}=${encodeURIComponent(word().replace('\ud800', 'x'))}`).join('&')}`
  }
  const path = (pattern: string): string => pattern.replace(/\{\w+\}/g, () => encodeURIComponent(word().replace('\ud800', 'x')))
  return { pick, make, query, path }
}

t.test('no call is answered as a fault', async (t) => {
  const seed = newSeed()
  t.comment(`PARLEY_TEST_SEED=${seed}`)
  const random = createRandom(seed)
  const { pick, make, query, path } = makers(random)
  const server = await startServer(t, { PARLEY_IP_RATE_LIMIT: 'off' })
  const origin = `http://127.0.0.1:${server.httpPort}`
  const admin = await tokenOf('root', 3_600, 'admin')
  for (const user of users) await server.rpc(user, 'conversations', {})
  for (const group of ['g0', 'g1']) await server.rpc('ann', 'group.create', { group, name: group, members: ['ben'] })
  const { paths } = JSON.parse((await server.get('/v1/openapi.json')).text) as { paths: Record<string, Record<string, Operation>> }
  const operations = Object.entries(paths).flatMap(([pattern, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) =>
      Array.isArray(operation) ? [] : [{ pattern, method: method.toUpperCase(), operation }],
    ),
  )
  t.ok(operations.length > 30)

  const faults: string[] = []
  const answers = new Map<number, number>()
  const callOne = async (): Promise<void> => {
    const { pattern, method, operation } = pick(operations)
    // Whoever is erased can do nothing more.
    if (method === 'DELETE' && pattern.endsWith('/users/{id}') && random(100) > 0) return
    const url = path(pattern) + query(operation.parameters)
    const schema = operation.requestBody?.content['application/json']?.schema
    const body = method === 'GET' || method === 'HEAD' ? undefined : JSON.stringify(make(schema))
    const token = pattern.includes('/admin/') ? admin : await tokenOf(pick(users))
    const response = await fetch(origin + url, {
      method,
      headers: { authorization: `Bearer ${token}` },
      ...(body !== undefined && { body }),
    })
    const text = await response.text()
    answers.set(response.status, (answers.get(response.status) ?? 0) + 1)
    if (response.status === 500) faults.push(`${method} ${url} ${body}: ${response.status} ${text}`)
  }
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      for (let n = 0; n < calls / lanes; n++) await callOne()
    }),
  )
  t.comment([...answers].map(([status, count]) => `${count} × ${status}`).join(', '))
  t.same(faults, [])
  t.ok((answers.get(200) ?? 0) > 50, 'some were right')
  await eventually(async () => (await server.readyStatus()) === 200)
  t.same(
    server.log.filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  )
  t.same(await server.stop(), { code: 0, signal: null })
})
