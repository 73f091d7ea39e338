/** The OpenAPI document is valid, and has every method and admin call with what it takes and how it fails. */
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
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
