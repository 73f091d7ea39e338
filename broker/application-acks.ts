/**
 * How far the application messages are that Aedes has sent on one connection with QoS 1 and 2: an answer that does not fit is
 * a violation, one that nobody waits for is dropped before it reaches Aedes.
 */
import { bodyAt } from './mqtt/packet-cutter.js'
import { ProtocolViolation, packetType } from './mqtt/validate.js'

type Stage = 'qos1' | 'qos2' | 'released'

export class ApplicationAcks {
  readonly #stages = new Map<number, Stage>()

  /** A PUBLISH or PUBREL that Aedes sends. */
  noteSent(packet: Buffer): void {
    const first = packet[0] as number
    const qos = (first >> 1) & 3
    if (qos === 0) return
    const start = bodyAt(packet, 0)
    if (first >> 4 === packetType.pubrel) this.#stages.set(packet.readUInt16BE(start), 'released')
    else this.#stages.set(packet.readUInt16BE(start + 2 + packet.readUInt16BE(start)), qos === 1 ? 'qos1' : 'qos2')
  }

  /** PUBACK, PUBREC or PUBCOMP from the client: true when Aedes is to have it. Throws ProtocolViolation. */
  answer(type: number, packetId: number): boolean {
    const stage = this.#stages.get(packetId)
    // Of an earlier connection: only PUBREC is owed an answer.
    if (stage === undefined) return type === packetType.pubrec
    if (!fits(type, stage))
      throw new ProtocolViolation(`packet type ${type} does not answer what was sent as ${packetId} [MQTT-4.3.2-2, 4.3.3-2]`)
    if (type === packetType.pubrec) this.#stages.set(packetId, 'released')
    else this.#stages.delete(packetId)
    return true
  }
}

function fits(type: number, stage: Stage): boolean {
  if (type === packetType.puback) return stage === 'qos1'
  return type === packetType.pubcomp ? stage === 'released' : stage !== 'qos1'
}
