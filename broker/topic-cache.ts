/**
 * Topics of inbound PUBLISH packets, checked once: most clients send to few topics, so that reading, validating and routing
 * one is a look-up. Bounded: emptied when full.
 */
import { assertTopicName, readString } from './mqtt/validate.js'
import { type Target, targetOf } from './topics.js'

export interface KnownTopic {
  topic: string
  target: Target
}

const knownMax = 20_000
const topicBytesMax = 1_024

export class TopicCache {
  readonly #known = new Map<string, KnownTopic>()

  /** Throws ProtocolViolation for what is not a topic name. */
  get(bytes: Buffer, start: number, end: number): KnownTopic {
    const raw = bytes.toString('latin1', start, end)
    const known = this.#known.get(raw)
    if (known !== undefined) return known
    const topic = readString(bytes, start, end, 'topic')
    assertTopicName(topic)
    const found = { topic, target: targetOf(topic) }
    if (end - start > topicBytesMax) return found
    if (this.#known.size >= knownMax) this.#known.clear()
    this.#known.set(raw, found)
    return found
  }
}
