/**
 * The messages that clients send, as section 3 of topics.md says: one schema per type, and the stored form. A payload
 * that is not a JSON object is a text message.
 */
import { isUtf8 } from 'node:buffer'
import { type Static, type TSchema, Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { type Refusal, refuse } from './errors.js'
import { plainMessageOf } from './plain-message.js'
import { describeFault } from './plugin-host.js'
import { idRule } from './topics.js'

const strict = { additionalProperties: false }
const text = (max: number): ReturnType<typeof Type.String> => Type.String({ maxLength: max })
const count = (max: number): ReturnType<typeof Type.Integer> => Type.Integer({ minimum: 0, maximum: max })

export const seqSchema = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
export const idSchema = Type.String({ pattern: '^[A-Za-z0-9_.~-]{1,64}$', description: idRule })
/** `u/{peer}` or `g/{group}`. */
export const addressSchema = Type.String({ pattern: '^[ug]/[A-Za-z0-9_.~-]{1,64}$', description: 'u/{peer} or g/{group}' })

/** A stored message in an answer, for the OpenAPI document. */
export const messageSchema = Type.Object({
  seq: seqSchema,
  ts: Type.Integer(),
  from: Type.String(),
  to: Type.Optional(idSchema),
  group: Type.Optional(idSchema),
  id: Type.String(),
  type: Type.String(),
  body: Type.Optional(Type.Unknown()),
})

const sizeMax = 2 ** 40
const media = { url: text(2048), mime: text(128), size: count(sizeMax) }

const bodies: Record<string, TSchema> = {
  text: Type.String(),
  image: Type.Object({ ...media, width: count(65_535), height: count(65_535), thumb: Type.Optional(Type.String()) }, strict),
  voice: Type.Object({ ...media, duration_ms: count(86_400_000) }, strict),
  file: Type.Object({ ...media, name: text(255) }, strict),
  recall: Type.Object({ seq: seqSchema }, strict),
  edit: Type.Object({ seq: seqSchema, body: Type.Unknown() }, strict),
  reaction: Type.Object({ seq: seqSchema, emoji: Type.String({ minLength: 1, maxLength: 64 }), on: Type.Boolean() }, strict),
}

const envelopeSchema = Type.Object(
  {
    id: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    type: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    body: Type.Unknown(),
    re: Type.Optional(seqSchema),
    mentions: Type.Optional(Type.Array(Type.String({ pattern: '^(@all|[A-Za-z0-9_.~-]{1,64})$' }), { maxItems: 500 })),
    meta: Type.Optional(Type.Object({})),
  },
  strict,
)

type Envelope = Static<typeof envelopeSchema>

const envelope = Compile(envelopeSchema)
const validators = new Map<string, Validator>(Object.entries(bodies).map(([type, schema]) => [type, Compile(schema)]))

/** The types of message that a client may send. */
export const messageTypes: readonly string[] = [...Object.keys(bodies), 'x-…']

/** Types that speak of an earlier message: `body.seq`. */
export const referringTypes: ReadonlySet<string> = new Set(['recall', 'edit', 'reaction'])

export interface Message {
  /** undefined: the payload had none. */
  id: string | undefined
  type: string
  /** As it was sent, checked; undefined for what is a text by its form alone. */
  body?: unknown
  /** Seq of the message that a recall, edit or reaction speaks of. */
  target: number | undefined
  /** `body.body` of an edit. */
  newBody?: unknown
  /** Its `mentions` have `@all`. */
  mentionsAll?: boolean
  /** The last fields of the stored form: `"id":…` if there is one, `"type":…,"body":…` and what is optional. May lie in the payload. */
  json: Buffer
}

const openBrace = 0x7b
const plainMax = 0x20

/** Throws a Refusal `invalid` that says what is wrong. */
export function parseMessage(payload: Buffer): Message {
  const plain = plainMessageOf(payload)
  return plain === undefined ? parseInFull(payload) : { id: plain.id, type: 'text', target: undefined, json: plain.json }
}

/** The same for every payload, plain ones too, by decoding it. */
export function parseInFull(payload: Buffer): Message {
  if (payload.length === 0) throw refuse('invalid', 'the payload is empty')
  if (!isUtf8(payload)) throw refuse('invalid', 'the payload is not UTF-8')
  const raw = payload.toString('utf8')
  const parsed = startsAsObject(payload) ? parseObject(raw) : undefined
  if (parsed === undefined)
    return { id: undefined, type: 'text', target: undefined, json: Buffer.from(`"type":"text","body":${JSON.stringify(raw)}`) }
  if (!envelope.Check(parsed)) throw refuse('invalid', describeFault(envelope, parsed))
  return checkBody(parsed)
}

/** The message id of a payload that was refused, so that the ack can name it. */
export function messageIdOf(payload: Buffer): string | undefined {
  const parsed = startsAsObject(payload) ? parseObject(payload.toString('utf8')) : undefined
  const id = (parsed as { id?: unknown } | undefined)?.id
  return typeof id === 'string' && id.length <= 256 ? id : undefined
}

function startsAsObject(payload: Buffer): boolean {
  let at = 0
  while (at < payload.length && (payload[at] as number) <= plainMax) at++
  return payload[at] === openBrace
}

function parseObject(raw: string): object | undefined {
  try {
    return JSON.parse(raw) as object
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

function checkBody(parsed: Envelope): Message {
  const { id, type = 'text', body, re, mentions, meta } = parsed
  const validator = validators.get(type)
  if (validator === undefined && !type.startsWith('x-')) {
    const allowed = type === 'system' ? 'only the server writes system messages' : `types are ${messageTypes.join(', ')}`
    throw refuse('invalid', `type ${JSON.stringify(type)}: ${allowed}`)
  }
  if (validator !== undefined && !validator.Check(body)) throw refuse('invalid', `body of ${type}: ${describeFault(validator, body)}`)
  let json = `${id === undefined ? '' : `"id":${JSON.stringify(id)},`}"type":${JSON.stringify(type)},"body":${stringify(body)}`
  if (re !== undefined) json += `,"re":${re}`
  if (mentions !== undefined) json += `,"mentions":${JSON.stringify(mentions)}`
  if (meta !== undefined) json += `,"meta":${stringify(meta)}`
  const mentionsAll = mentions?.includes('@all') === true
  const message: Message = { id, type, body, target: undefined, mentionsAll, json: Buffer.from(json) }
  if (!referringTypes.has(type)) return message
  const { seq, body: newBody } = body as { seq: number; body?: unknown }
  return { ...message, target: seq, newBody }
}

/** Whether `body` can stand in place of that of a message of this type. */
export function faultOfEdit(type: string, body: unknown): Refusal | undefined {
  const validator = validators.get(type)
  if (validator === undefined || validator.Check(body)) return undefined
  return refuse('invalid', `body of ${type}: ${describeFault(validator, body)}`)
}

function stringify(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch (error) {
    if (error instanceof RangeError) throw refuse('invalid', 'the payload is nested too deeply')
    throw error
  }
}
