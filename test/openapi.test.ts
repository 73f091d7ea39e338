/** The OpenAPI document is valid, and has every method and admin call with what it takes and how it fails. */
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
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

t.test('every method says what it answers, and answers so', async (t) => {
  const s = await stage(t)
  const { paths } = (await s.http('GET', '/v1/openapi.json')).body as { paths: Record<string, Record<string, Operation>> }
  const schemaOf = (method: string): Json => paths[`/v1/rpc/${method}`]?.post?.responses['200']?.content?.['application/json']?.schema ?? {}
  for (const path of Object.keys(paths)) {
    if (path.startsWith('/v1/rpc/')) t.ok('properties' in schemaOf(path.slice('/v1/rpc/'.length)), `${path} names its fields`)
  }
  const [alice, bob] = await s.cast(['alice', 'bob'])
  await s.actor('alice', { device: 'web', clean: false })
  await bob.sends('u/alice', 'hi')
  await bob.sends('u/alice', { type: 'recall', body: { seq: 1 } })
  const calls: [string, Json][] = [
    ['group.create', { group: 'team', members: ['bob'] }],
    ['conversation.update', { conv: 'u/bob', pinned: true, muted_until: Date.now() + 60_000 }],
    ['conversations', {}],
    ['history', { conv: 'u/bob' }],
    ['history', { conv: 'u/bob', fold: true }],
    ['sync', {}],
    ['receipts', { conv: 'g/team' }],
    ['receipts', { conv: 'u/bob', seq: 1 }],
    ['devices.list', {}],
    ['devices.remove', { device: 'web' }],
    ['group.mute', { group: 'team', user: 'bob' }],
    ['group.get', { group: 'team' }],
    ['group.members', { group: 'team' }],
    ['group.update', { group: 'team', name: 'New' }],
    ['group.remove', { group: 'team', users: ['bob'] }],
    ['group.add', { group: 'team', users: ['bob'] }],
    ['group.role', { group: 'team', user: 'bob', role: 'admin' }],
    ['group.leave', { group: 'team' }],
    ['friends.add', { user: 'bob' }],
    ['friends.list', {}],
    ['friends.remove', { user: 'bob' }],
    ['blocks.add', { user: 'bob' }],
    ['blocks.list', {}],
    ['blocks.remove', { user: 'bob' }],
    ['profile.update', { name: 'Alice' }],
    ['profile.get', { user: 'bob' }],
  ]
  for (const [method, params] of calls) {
    const answer = await alice.calls(method, params)
    const faults = Value.Errors(schemaOf(method) as TSchema, answer)
    t.strictSame(faults, [], `${method} ${JSON.stringify(params)}`)
  }
})
