/**
 * The publishes of one connection that are under way, in order of arrival. Each is acknowledged when it and all before it have
 * their outcome [MQTT-4.6.0-2]; their number and bytes are bounded, past which the connection does not read on.
 */
import type { Inbound } from './inbound.js'
import { ProtocolViolation } from './mqtt/validate.js'

const pendingMax = 1_024
const pendingBytesMax = 4 * 1_048_576
/** QoS 2 messages between PUBLISH and PUBREL. */
const qos2Max = 1_024
/** Acknowledged ones that may stay in the list before it is cut. */
const answeredMax = 512

export interface Acknowledger {
  sendPuback(packetId: number): void
  sendPubrec(packetId: number): void
}

export class InboundQueue {
  #pending = 0
  #pendingBytes = 0
  #waiting: Inbound[] = []
  /** So many at the head of `waiting` are answered. */
  #answered = 0
  /** Messages of QoS 2 that wait for PUBREL. */
  #qos2: Set<number> | undefined
  readonly #acknowledger: Acknowledger

  constructor(acknowledger: Acknowledger) {
    this.#acknowledger = acknowledger
  }

  /** `share` 0.5: half of the room is free. */
  hasRoom(share: number): boolean {
    return this.#pending < pendingMax * share && this.#pendingBytes < pendingBytesMax * share
  }

  /** False for a QoS 2 message that is here already: it must not be handled again. */
  add(inbound: Inbound): boolean {
    if (inbound.qos === 2 && this.#isRepeat(inbound.packetId)) return false
    this.#pending++
    this.#pendingBytes += inbound.payload.length
    if (inbound.qos > 0) this.#waiting.push(inbound)
    return true
  }

  #isRepeat(packetId: number): boolean {
    this.#qos2 ??= new Set()
    if (!this.#qos2.has(packetId)) {
      if (this.#qos2.size >= qos2Max) throw new ProtocolViolation(`more than ${qos2Max} QoS 2 messages wait for PUBREL`)
      this.#qos2.add(packetId)
      return false
    }
    // The first one answers, if it has not yet.
    const isUnderWay = this.#waiting.some((other, index) => index >= this.#answered && other.packetId === packetId && other.qos === 2)
    if (!isUnderWay) this.#acknowledger.sendPubrec(packetId)
    return true
  }

  /** PUBREL: true when the message was one of these. */
  release(packetId: number): boolean {
    return this.#qos2?.delete(packetId) === true
  }

  /** One has got its outcome: acknowledges all that have, up to the first that has not. */
  settled(inbound: Inbound): void {
    this.#pending--
    this.#pendingBytes -= inbound.payload.length
    const waiting = this.#waiting
    let index = this.#answered
    for (; index < waiting.length && (waiting[index] as Inbound).settled; index++) {
      const { qos, packetId } = waiting[index] as Inbound
      if (qos === 1) this.#acknowledger.sendPuback(packetId)
      else this.#acknowledger.sendPubrec(packetId)
    }
    if (index === waiting.length) {
      waiting.length = 0
      index = 0
    } else if (index > answeredMax) {
      waiting.splice(0, index)
      index = 0
    }
    this.#answered = index
  }
}
