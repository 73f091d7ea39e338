/**
 * Topics of inbound PUBLISH packets, checked once: most clients send to few topics, so that reading, validating and routing
 * one is a look-up. Bounded: emptied when full.
 */
import { assertTopicName, readString } from './mqtt/validate.js'
import { type Target, targetOf } from './topics.js'

export interface KnownTopic {
  /** Its bytes, one character each. */
  raw: string
  topic: string
  target: Target
}

const knownMax = 20_000
const topicBytesMax = 1_024

export class TopicCache {
  readonly #known = new Map<string, KnownTopic>()

  /** `likely`: who publishes mostly goes on with the same topic. Throws ProtocolViolation for what is not a topic name. */
  get(bytes: Buffer, start: number, end: number, likely: KnownTopic | undefined): KnownTopic {
    if (likely !== undefined && isText(bytes, start, end, likely.raw)) return likely
    const raw = bytes.toString('latin1', start, end)
    const known = this.#known.get(raw)
    if (known !== undefined) return known
    const topic = readString(bytes, start, end, 'topic')
    assertTopicName(topic)
    const found = { raw, topic, target: targetOf(topic) }
    if (end - start > topicBytesMax) return found
    if (this.#known.size >= knownMax) this.#known.clear()
    this.#known.set(raw, found)
    return found
  }
}

function isText(bytes: Buffer, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false
  for (let at = 0; at < text.length; at++) if (bytes[start + at] !== text.charCodeAt(at)) return false
  return true
}
