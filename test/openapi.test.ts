/** The OpenAPI document is valid, and has every method and admin call with what it takes and how it fails. */
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { fileOf, puts } from './helper/media.js'
import { type Json, stage } from './helper/stage.js'

interface Operation {
  requestBody: { content: { 'application/json': { schema: Json } } }
  responses: Record<string, { content?: { 'application/json'?: { schema: Json } } }>
}

t.test('the document is valid OpenAPI 3.1, and anybody may read it', async (t) => {
  const s = await stage(t)
  const { status, body } = await s.http('GET', '/v1/openapi.json')
  t.equal(status, 200)
  const validator = new Validator()
  const { valid, errors } = await validator.validate(structuredClone(body))
  t.ok(valid, JSON.stringify(errors)?.slice(0, 500))
  t.equal(validator.version, '3.1')

  const broken = structuredClone(body) as { paths: Record<string, { post: Json }> }
  broken.paths['/v1/rpc/history'] = { post: { responses: 'many' } }
  t.notOk((await new Validator().validate(broken)).valid, 'the validator sees what is wrong')
})

/** What the words of a schema must be in OpenAPI 3.1, which the validator above does not look into. */
function faultsOf(schema: unknown, path: string): string[] {
  if (Array.isArray(schema)) return schema.flatMap((part, at) => faultsOf(part, `${path}[${at}]`))
  if (typeof schema !== 'object' || schema === null) return []
  const faults: string[] = []
  for (const [word, value] of Object.entries(schema)) {
    const isSchema = typeof value === 'boolean' || (typeof value === 'object' && value !== null && !Array.isArray(value))
    if (['items', 'additionalProperties', 'not'].includes(word) && !isSchema) faults.push(`${path}.${word} is no schema`)
    if (['additionalItems', 'definitions', 'nullable'].includes(word)) faults.push(`${path}.${word} is no word of JSON Schema 2020-12`)
    faults.push(...faultsOf(value, `${path}.${word}`))
  }
  return faults
}

t.test('its schemas are JSON Schema 2020-12', async (t) => {
  const s = await stage(t)
  const { paths } = (await s.http('GET', '/v1/openapi.json')).body as { paths: Record<string, Record<string, Operation>> }
  for (const [path, operations] of Object.entries(paths))
    for (const [verb, { requestBody, responses }] of Object.entries(operations))
      for (const part of [requestBody, ...Object.values(responses ?? {})])
        for (const { schema } of Object.values(part?.content ?? {})) t.strictSame(faultsOf(schema, `${verb} ${path}`), [])
  t.equal(faultsOf({ items: [{}, { nullable: true }] }, 'a').length, 2, 'what is wrong is seen')
})

t.test('every method is in it, with what it takes and how it fails', async (t) => {
  const s = await stage(t)
  const { paths } = (await s.http('GET', '/v1/openapi.json')).body as { paths: Record<string, Record<string, Operation>> }
  const calls = Object.entries(paths).filter(([path]) => path.startsWith('/v1/rpc/'))
  t.ok(calls.length > 10)
  for (const [path, { post }] of calls) {
    t.equal(post?.requestBody.content['application/json'].schema.additionalProperties, false, `${path} refuses what it does not know`)
    t.equal(post?.responses['200']?.content?.['application/json']?.schema.type, 'object', `${path} answers an object`)
    t.ok(post?.responses['400'] && post.responses['401'] && post.responses['404'], `${path} names its errors`)
  }
  t.ok(paths['/v1/admin/users/{id}/sessions']?.delete)
})

type Calls = (user: string, method: string, params: Json) => Promise<Json>

/** Every method once, by a user and a friend of his; what they need was done before. */
const story = (me: string, friend: string, group: string): [user: string, method: string, params: Json][] => [
  [me, 'group.create', { group, members: [friend] }],
  [me, 'conversation.update', { conv: `u/${friend}`, pinned: true, muted_until: Date.now() + 60_000 }],
  [me, 'conversations', {}],
  [me, 'history', { conv: `u/${friend}` }],
  [me, 'history', { conv: `u/${friend}`, fold: true }],
  [me, 'sync', {}],
  [me, 'receipts', { conv: `g/${group}` }],
  [me, 'receipts', { conv: `u/${friend}`, seq: 1 }],
  [me, 'presence', { users: [friend, 'nobody'] }],
  [me, 'devices.list', {}],
  [me, 'devices.remove', { device: 'web' }],
  [me, 'group.mute', { group, user: friend }],
  [me, 'group.get', { group }],
  [me, 'group.members', { group }],
  [me, 'group.update', { group, name: 'New' }],
  [me, 'group.remove', { group, users: [friend] }],
  [me, 'group.add', { group, users: [friend] }],
  [me, 'group.role', { group, user: friend, role: 'admin' }],
  [friend, 'group.leave', { group }],
  [me, 'group.dissolve', { group }],
  [me, 'friends.add', { user: friend }],
  [friend, 'friends.accept', { user: me }],
  [me, 'friends.list', {}],
  [me, 'friends.remove', { user: friend }],
  [me, 'blocks.add', { user: friend }],
  [me, 'blocks.list', {}],
  [me, 'blocks.remove', { user: friend }],
  [me, 'profile.update', { name: 'Somebody', status: 'busy' }],
  [me, 'profile.get', { user: me }],
  [me, 'media.upload', { mime: 'image/png', size: 1000, name: 'a.png' }],
]

t.test('every method says what it answers, and answers so, by MQTT and by HTTP', async (t) => {
  const s = await stage(t)
  const { paths } = (await s.http('GET', '/v1/openapi.json')).body as { paths: Record<string, Record<string, Operation>> }
  const schemaOf = (path: string, verb = 'post', status = '200'): Json =>
    paths[path]?.[verb]?.responses[status]?.content?.['application/json']?.schema ?? {}
  const prefix = '/v1/rpc/'
  const methods = Object.keys(paths).flatMap((path) => (path.startsWith(prefix) ? [path.slice(prefix.length)] : []))
  for (const method of methods) t.ok('properties' in schemaOf(prefix + method), `${method} names its fields`)
  const fits = (schema: Json, answer: Json, what: string): void => void t.strictSame(Value.Errors(schema as TSchema, answer), [], what)
  t.not(Value.Errors(schemaOf('/v1/rpc/history') as TSchema, { messages: 1 }).length, 0, 'a wrong answer is seen')

  const people = await s.cast(['alice', 'bob', 'carol', 'dave'])
  const byMqtt: Calls = (user, method, params) =>
    (people.find((actor) => actor.user === user) as (typeof people)[number]).calls(method, params)
  const byHttp: Calls = async (user, method, params) => {
    const { status, body } = await s.http('POST', prefix + method, { token: await s.token(user), body: params })
    t.equal(status, 200, `${method} ${JSON.stringify(body)}`)
    return body
  }
  for (const [way, calls, me, friend] of [
    ['MQTT', byMqtt, 'alice', 'bob'],
    ['HTTP', byHttp, 'carol', 'dave'],
  ] as const) {
    await s.actor(me, { device: 'web', clean: false })
    const [, other] = people.filter(({ user }) => user === me || user === friend)
    await other?.sends(`u/${me}`, 'hi')
    await other?.sends(`u/${me}`, { type: 'reaction', body: { seq: 1, emoji: '+1', on: true } })
    await other?.sends(`u/${me}`, { type: 'recall', body: { seq: 1 } })
    const called = new Set(['media.link'])
    for (const [user, method, params] of story(me, friend, `team-of-${me}`)) {
      called.add(method)
      fits(schemaOf(prefix + method), await calls(user, method, params), `${way} ${method} ${JSON.stringify(params)}`)
    }
    const { upload_url, url } = (await calls(me, 'media.upload', { mime: 'image/png', size: 1000 })) as { upload_url: string; url: string }
    const put = await puts(s, upload_url, fileOf('image/png'))
    fits(schemaOf('/v1/media/{id}', 'put', '201'), put.body, 'an upload')
    fits(schemaOf('/v1/rpc/media.link'), await calls(me, 'media.link', { url }), `${way} media.link`)
    t.strictSame([...called].sort(), [...methods].sort(), `${way}: each method was called`)
  }

  for (const [verb, path, example, body] of [
    ['post', '/v1/admin/users', '/users', { users: ['erin'] }],
    ['post', '/v1/admin/groups', '/groups', { owner: 'erin', group: 'crew' }],
    ['post', '/v1/admin/groups/{id}/members', '/groups/crew/members', { users: ['alice'] }],
    ['delete', '/v1/admin/groups/{id}/members', '/groups/crew/members', { users: ['alice'] }],
    ['post', '/v1/admin/tokens', '/tokens', { user: 'erin' }],
    ['delete', '/v1/admin/users/{id}/sessions', '/users/erin/sessions', { revoke: true }],
    ['delete', '/v1/admin/users/{id}', '/users/erin', undefined],
  ] as const)
    fits(schemaOf(path, verb), await s.admin(verb.toUpperCase(), example, body), `${verb} ${path}`)
})
