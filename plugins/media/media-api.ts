/** What the methods of media take and answer, and what the OpenAPI document says of its routes. */
import { Type } from 'typebox'
import { mimePattern } from './media-types.js'

const strict = { additionalProperties: false }
const expires = Type.Integer({ description: 'ms since 1970' })

export const uploadParams = Type.Object(
  {
    mime: Type.String({ pattern: mimePattern }),
    size: Type.Integer({ minimum: 1, maximum: 2 ** 40, description: 'bytes, exactly' }),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 255, description: 'what it is saved as' })),
    type: Type.Optional(Type.Enum(['image', 'voice', 'file'] as const)),
  },
  strict,
)
export const uploadResult = Type.Object({
  upload_url: Type.String({ description: 'takes one PUT of the bytes' }),
  url: Type.String({ description: 'for the message' }),
  expires_ts: expires,
})
export const linkParams = Type.Object({ url: Type.String({ maxLength: 2048, description: 'of an object' }) }, strict)
export const linkResult = Type.Object({ url: Type.String({ description: 'needs no token' }), expires_ts: expires })

const bytes = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
const queried = (name: string, description: string): object => ({ name, in: 'query', description, schema: { type: 'string' } })
const header = (name: string): object => ({ name, in: 'header', schema: { type: 'string' } })

export const putOperation = {
  tags: ['media'],
  operationId: 'media.put',
  summary: 'Uploads the bytes that media.upload announced, once',
  security: [],
  parameters: [{ ...queried('upload', 'as in upload_url'), required: true }],
  requestBody: { required: true, content: bytes },
  responses: {
    201: {
      description: 'the object is there',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            properties: { url: { type: 'string' }, mime: { type: 'string' }, size: { type: 'integer' }, sha256: { type: 'string' } },
          },
        },
      },
    },
    410: { description: 'the URL has expired' },
    415: { description: 'the bytes are not of the announced type' },
  },
}

export const getOperation = {
  tags: ['media'],
  operationId: 'media.get',
  summary: 'The bytes of an object, whole or a range, for who may read a message that refers to it',
  security: [{ bearer: [] }, {}],
  parameters: [
    queried('view', 'as in a URL of media.link, in place of a token'),
    header('range'),
    header('if-range'),
    header('if-none-match'),
  ],
  responses: {
    200: { description: 'all of it', content: bytes },
    206: { description: 'the range', content: bytes },
    304: { description: 'what you have is right' },
    416: { description: 'no byte of the range is there' },
  },
}
