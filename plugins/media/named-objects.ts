/** The objects of this server that a stored message names: in its body, or in what an edit puts in the place of one. */
import type { Config } from '../../broker/config.js'
import { idOfUrl } from './media-world.js'

interface Stored {
  type?: string
  body?: { url?: unknown; thumb?: unknown; body?: unknown }
}

const mediaTypes: ReadonlySet<string | undefined> = new Set(['image', 'voice', 'file'])

export function objectsNamedIn(config: Config, payload: Buffer): string[] {
  const { type, body } = JSON.parse(payload.toString()) as Stored
  const shown = type === 'edit' ? body?.body : mediaTypes.has(type) ? body : undefined
  if (typeof shown !== 'object' || shown === null) return []
  const { url, thumb } = shown as Stored['body'] & object
  return [url, thumb].flatMap((name) => (typeof name === 'string' ? idOfUrl(config, name) || [] : []))
}
