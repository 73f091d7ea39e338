/**
 * Narrows a value that its schema refuses down to the first part that is wrong, so that only this part is explained: a list of all
 * faults of a large payload would take longer than everything else that is done with it.
 */
import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'

interface Part {
  /** Names and indexes that lead to it. */
  path: readonly string[]
  schema: TSchema
  value: unknown
  /** Fields that the schema does not know. */
  unknown: readonly string[]
}

interface Shape {
  type?: string
  properties?: Record<string, TSchema>
  required?: readonly string[]
  additionalProperties?: unknown
  items?: TSchema
  maxItems?: number
  minItems?: number
}

const unknownMax = 5

/** `value` does not pass `schema`. */
export function firstFault(schema: TSchema, value: unknown, path: readonly string[] = []): Part {
  const { type, properties, additionalProperties, required = [], items, maxItems = Number.MAX_VALUE, minItems = 0 } = schema as Shape
  if (type === 'object' && properties !== undefined && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const fields = value as Record<string, unknown>
    const unknown: string[] = []
    if (additionalProperties === false) {
      for (const name in fields) if (!Object.hasOwn(properties, name) && unknown.push(name) === unknownMax) break
    }
    if (unknown.length > 0) return { path, schema, value, unknown }
    if (required.every((name) => Object.hasOwn(fields, name))) {
      for (const [name, part] of Object.entries(properties))
        if (Object.hasOwn(fields, name) && !Value.Check(part, fields[name])) return firstFault(part, fields[name], [...path, name])
    } else if (additionalProperties !== false) {
      const known = Object.entries(fields).filter(([name]) => Object.hasOwn(properties, name))
      return { path, schema, value: Object.fromEntries(known), unknown }
    }
  } else if (type === 'array' && items !== undefined && Array.isArray(value)) {
    if (value.length >= minItems && value.length <= maxItems) {
      const at = value.findIndex((item) => !Value.Check(items, item))
      if (at !== -1) return firstFault(items, value[at], [...path, String(at)])
    } else if (value.length > maxItems) {
      // Too many items; which ones does not matter.
      return { path, schema: { type: 'array', maxItems } as TSchema, value: value.slice(0, maxItems + 1), unknown: [] }
    }
  }
  return { path, schema, value, unknown: [] }
}
