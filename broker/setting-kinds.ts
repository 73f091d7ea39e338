/**
 * The kinds of settings there are: how the text of an environment variable becomes a value, how the value is
 * printed again, and the schema that judges it wherever it came from. `config-settings.ts` builds its table of these.
 */
import { readFileSync } from 'node:fs'
import { type TSchema, Type } from 'typebox'
import { parsePublicKey, publicKeyRule } from './public-key.js'
import { faultsOfRuleTopic, type TopicRule, topicRulesSchema } from './topic-rules.js'
import { faultOfRange, trustedProxiesMax } from './trusted-proxies.js'

export interface Setting<V> {
  readonly env: string
  readonly schema: TSchema
  readonly default: V
  readonly unit: string
  /** A phrase for faults and docs. */
  readonly allowed: string
  readonly description: string
  /** Its value is never shown. */
  readonly secret: boolean
  /** undefined is a value: not set, or off. */
  readonly optional: boolean
  /** Gives a value for the schema to judge; throws an Error when there is more to say than what is allowed. */
  parse(text: string): unknown
  /** The text that `parse` turns into this value. */
  print(value: V): string
  /** What a schema cannot say: phrases of what is wrong with a value that the schema accepts. */
  check(value: V): string[]
  /** The same for those parts of a value that the schema refuses which can be judged alone. */
  checkParts(value: unknown): string[]
}

export interface Wording {
  env: string
  unit?: string
  description: string
}

export interface RateLimit {
  readonly perSecond: number
  readonly burst: number
}

const sound = (): string[] => []
const verbatim = (text: string): string => text
const plain = { unit: '', secret: false, optional: false, parse: verbatim, print: verbatim, check: sound, checkParts: sound }

export function integer(wording: Wording, fallback: number, from: number, to: number): Setting<number> {
  return {
    ...plain,
    ...wording,
    schema: Type.Integer({ minimum: from, maximum: to }),
    default: fallback,
    allowed: `a whole number from ${from} to ${to}`,
    parse: (text) => (/^\d{1,15}$/.test(text) ? Number(text) : text),
    print: String,
  }
}

/** `off` is undefined. */
export function integerOrOff(wording: Wording, fallback: number, from: number, to: number): Setting<number | undefined> {
  const number = integer(wording, fallback, from, to)
  return {
    ...number,
    optional: true,
    allowed: `${number.allowed}, or off`,
    parse: (text) => (text === 'off' ? undefined : number.parse(text)),
    print: (value) => (value === undefined ? 'off' : number.print(value)),
    check: sound,
  }
}

export function text(wording: Wording, fallback: string, pattern: RegExp, allowed: string): Setting<string> {
  const schema = Type.String({ pattern: pattern.source })
  return { ...plain, ...wording, schema, default: fallback, allowed }
}

export function choice<V extends string>(wording: Wording, fallback: V, words: readonly V[]): Setting<V> {
  const schema = Type.Enum([...words])
  const allowed = `one of ${words.join(', ')}`
  return { ...plain, ...wording, schema, default: fallback, allowed }
}

export function flag(wording: Wording): Setting<boolean> {
  return {
    ...plain,
    ...wording,
    schema: Type.Boolean(),
    default: false,
    allowed: 'on or off',
    parse: (text) => ({ on: true, off: false })[text] ?? text,
    print: (value) => (value ? 'on' : 'off'),
  }
}

/** A text that is not set by default. */
export function optionalText(wording: Wording, allowed: string, check: (value: string) => string[] = sound): Setting<string | undefined> {
  return {
    ...plain,
    ...wording,
    schema: Type.String({ minLength: 1, maxLength: 4096 }),
    optional: true,
    default: undefined,
    allowed,
    print: (value) => value ?? '',
    check: (value) => (value === undefined ? [] : check(value)),
  }
}

export function secretText(wording: Wording, allowed: string, check: (value: string) => string[]): Setting<string | undefined> {
  return { ...optionalText(wording, allowed, check), secret: true }
}

/** The value is always the PEM text; the text of the environment may also be the path of a file. */
export function publicKey(wording: Wording): Setting<string | undefined> {
  const check = (pem: string): string[] => {
    try {
      parsePublicKey(pem)
      return []
    } catch (error) {
      return [(error as Error).message]
    }
  }
  // Counted as a secret, because a private key given here by mistake must not be shown.
  return { ...secretText(wording, publicKeyRule, check), schema: Type.String({ minLength: 1, maxLength: 65536 }), parse: readPem }
}

function readPem(text: string): string {
  if (text.includes('-----BEGIN')) return text.replaceAll('\\n', '\n')
  try {
    return readFileSync(text, 'utf8')
  } catch (error) {
    const path = /^[^\n]{1,255}\.\w{1,5}$/.test(text) ? `"${text}"` : 'of that path'
    throw new Error(`it is not PEM, and a file ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

/** `off` is undefined. */
export function rate(wording: Wording, fallback: RateLimit): Setting<RateLimit | undefined> {
  const perSecond = Type.Number({ minimum: 0.01, maximum: 1_000_000 })
  const burst = Type.Integer({ minimum: 1, maximum: 10_000_000 })
  return {
    ...plain,
    ...wording,
    schema: Type.Object({ perSecond, burst }, { additionalProperties: false }),
    optional: true,
    default: fallback,
    allowed: 'off, or a rate such as "100/s" or "100/s burst 1000"',
    parse: (text) => {
      if (text === 'off') return undefined
      const [, rate, burst] = /^(\d{1,7}(?:\.\d{1,3})?)\/s(?: +burst +(\d{1,8}))?$/.exec(text) ?? []
      return rate === undefined ? text : { perSecond: Number(rate), burst: Number(burst ?? Math.ceil(Number(rate))) }
    },
    print: (value) => (value === undefined ? 'off' : `${value.perSecond}/s burst ${value.burst}`),
  }
}

export function origins(wording: Wording): Setting<readonly string[]> {
  return {
    ...plain,
    ...wording,
    schema: Type.Array(Type.String(), { maxItems: 100 }),
    default: [],
    allowed: 'a comma list of origins such as https://chat.example.org',
    parse: (text) => text.split(',').map((origin) => origin.trim()),
    print: (value) => value.join(','),
    check: (value) =>
      value.filter((origin) => !isOrigin(origin)).map((origin) => `"${origin}" is not an origin (scheme, host and port, nothing after)`),
  }
}

/** Types of media, with `*` for all of a kind, or all. */
export function mediaTypes(wording: Wording): Setting<readonly string[]> {
  return {
    ...plain,
    ...wording,
    schema: Type.Array(Type.String({ pattern: '^([a-z]+|\\*)/(\\*|[a-z0-9!#$&^_.+-]{1,63})$' }), { maxItems: 100 }),
    default: ['*/*'],
    allowed: 'a comma list of types such as image/*,audio/ogg,application/pdf',
    parse: (text) => text.split(',').map((type) => type.trim().toLowerCase()),
    print: (value) => value.join(','),
  }
}

/** Addresses and ranges of them. */
export function addressRanges(wording: Wording): Setting<readonly string[]> {
  return {
    ...plain,
    ...wording,
    schema: Type.Array(Type.String(), { maxItems: trustedProxiesMax }),
    default: [],
    allowed: 'a comma list of IP addresses and ranges such as 10.0.0.0/8',
    parse: (text) => text.split(',').map((range) => range.trim()),
    print: (value) => value.join(','),
    check: (value) => value.map(faultOfRange).filter((fault) => fault !== undefined),
  }
}

const isOrigin = (text: string): boolean => URL.canParse(text) && new URL(text).origin === text

export function topicRules(wording: Wording): Setting<readonly TopicRule[]> {
  return {
    ...plain,
    ...wording,
    schema: topicRulesSchema,
    default: [],
    allowed: 'a JSON list of {"topic": filter, "publish"?: true|false, "subscribe"?: true|false}',
    parse: (text) => {
      try {
        return JSON.parse(text)
      } catch (error) {
        throw new Error(`it is not JSON (${(error as Error).message})`)
      }
    },
    print: (value) => JSON.stringify(value),
    check: faultsOfTopics,
    checkParts: (value) => (Array.isArray(value) ? faultsOfTopics(value) : []),
  }
}

/** Of any list; what has no topic that is a text is left to the schema. */
function faultsOfTopics(rules: readonly unknown[]): string[] {
  return rules.flatMap((rule, at) => {
    const topic = typeof rule === 'object' && rule !== null && 'topic' in rule ? rule.topic : undefined
    return typeof topic === 'string' ? faultsOfRuleTopic(topic).map((fault) => `rule ${at} ("${topic}"): ${fault}`) : []
  })
}
