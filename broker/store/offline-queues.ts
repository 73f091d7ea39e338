/**
 * The queues of persistent sessions for open topics: packets of QoS 1 and 2 that are not acknowledged yet, oldest
 * first. A full queue loses its oldest packet. Every change is told to the write-behind.
 */
import { copyPacket, encodePacket, type OpenPacket, packetBytes } from './open-packet.js'
import type { WriteBehind } from './write-behind.js'

export interface QueueLimits {
  packetsMax: number
  bytesMax: number
}

interface Queued {
  packet: OpenPacket
  key: string
  bytes: number
}

interface Queue {
  packets: Queued[]
  bytes: number
}

export class OfflineQueues {
  readonly #limits: QueueLimits
  readonly #saved: WriteBehind
  readonly #queues = new Map<string, Queue>()
  readonly #keyOf: (client: string, number: number) => string
  #number = 0
  /** Packets lost because a queue was full. */
  dropped = 0

  constructor(limits: QueueLimits, saved: WriteBehind, keyOf: (client: string, number: number) => string) {
    this.#limits = limits
    this.#saved = saved
    this.#keyOf = keyOf
  }

  /** Puts back what was saved, in the order of the keys. */
  restore(client: string, key: string, number: number, packet: OpenPacket): void {
    this.#number = Math.max(this.#number, number)
    this.#push(client, { packet, key, bytes: packetBytes(packet) })
  }

  enqueue(client: string, original: OpenPacket): void {
    const packet = copyPacket(original)
    const key = this.#keyOf(client, ++this.#number)
    this.#push(client, { packet, key, bytes: packetBytes(packet) })
    this.#saved.add(key, encodePacket(packet, client))
    this.#trim(client)
  }

  #push(client: string, queued: Queued): void {
    let queue = this.#queues.get(client)
    if (queue === undefined) {
      queue = { packets: [], bytes: 0 }
      this.#queues.set(client, queue)
    }
    queue.packets.push(queued)
    queue.bytes += queued.bytes
  }

  #trim(client: string): void {
    const queue = this.#queues.get(client)
    while (queue !== undefined && (queue.packets.length > this.#limits.packetsMax || queue.bytes > this.#limits.bytesMax)) {
      this.#removeAt(client, queue, 0)
      this.dropped += 1
    }
  }

  #removeAt(client: string, queue: Queue, at: number): OpenPacket | undefined {
    const [removed] = queue.packets.splice(at, 1)
    if (removed === undefined) return undefined
    queue.bytes -= removed.bytes
    this.#saved.remove(removed.key)
    if (queue.packets.length === 0) this.#queues.delete(client)
    return removed.packet
  }

  /** Gives a queued packet its id, or puts the PUBREL in its place; throws when it is not in the queue. */
  update(client: string, packet: OpenPacket): void {
    for (const queued of this.#queues.get(client)?.packets ?? []) {
      const known = queued.packet
      const sameBroker = known.brokerId === packet.brokerId
      if (sameBroker && known.brokerCounter === packet.brokerCounter) known.messageId = packet.messageId
      else if (!sameBroker && known.messageId === packet.messageId) queued.packet = packet
      else continue
      this.#saved.put(queued.key, encodePacket(queued.packet, client))
      return
    }
    throw new Error('no such packet')
  }

  /** Removes the packet with this id, the oldest one without if it is undefined; undefined when there is none. */
  clear(client: string, messageId: number | undefined): OpenPacket | undefined {
    const queue = this.#queues.get(client)
    if (queue === undefined) return undefined
    const at = queue.packets.findIndex(({ packet }) => packet.messageId === messageId)
    return at === -1 ? undefined : this.#removeAt(client, queue, at)
  }

  clearAll(client: string): void {
    for (const { key } of this.#queues.get(client)?.packets ?? []) this.#saved.remove(key)
    this.#queues.delete(client)
  }

  packets(client: string): OpenPacket[] {
    return (this.#queues.get(client)?.packets ?? []).map(({ packet }) => packet)
  }
}
