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

  /** The payload is kept as it is, so it must not lie in memory that much else shares. */
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
    const packets = this.#queues.get(client)?.packets ?? []
    const { brokerId, brokerCounter, messageId } = packet
    const known = packets.find(
      ({ packet }) => brokerId !== undefined && packet.brokerId === brokerId && packet.brokerCounter === brokerCounter,
    )
    if (known !== undefined) known.packet.messageId = messageId
    // A PUBREL names no broker: only the id tells which of several in flight it belongs to.
    const replaced = known ?? packets.find(({ packet }) => messageId !== undefined && packet.messageId === messageId)
    if (replaced === undefined) throw new Error('no such packet')
    if (known === undefined) replaced.packet = packet
    this.#saved.put(replaced.key, encodePacket(replaced.packet, client))
  }

  /** Removes the packet with this id; undefined when there is none. */
  clear(client: string, messageId: number): OpenPacket | undefined {
    return this.#removeFirst(client, (packet) => packet.messageId === messageId)
  }

  /** Removes this very packet, which was not sent. */
  clearPacket(client: string, { brokerId, brokerCounter }: OpenPacket): OpenPacket | undefined {
    return this.#removeFirst(client, (packet) => packet.brokerId === brokerId && packet.brokerCounter === brokerCounter)
  }

  #removeFirst(client: string, isWanted: (packet: OpenPacket) => boolean): OpenPacket | undefined {
    const queue = this.#queues.get(client)
    const at = queue?.packets.findIndex(({ packet }) => isWanted(packet)) ?? -1
    return queue === undefined || at === -1 ? undefined : this.#removeAt(client, queue, at)
  }

  /** The packet id given last among those that wait for an acknowledgement. */
  lastPacketId(client: string): number | undefined {
    return this.#queues.get(client)?.packets.findLast(({ packet }) => packet.messageId !== undefined)?.packet.messageId
  }

  has(client: string): boolean {
    return this.#queues.has(client)
  }

  clearAll(client: string): void {
    for (const { key } of this.#queues.get(client)?.packets ?? []) this.#saved.remove(key)
    this.#queues.delete(client)
  }

  /** What is to be sent on reconnect; DUP is set on what was sent before [MQTT-3.3.1-1]. */
  packets(client: string): OpenPacket[] {
    const queued = this.#queues.get(client)?.packets ?? []
    return queued.map(({ packet }) => (packet.cmd === 'publish' ? { ...packet, dup: packet.messageId !== undefined } : packet))
  }
}
