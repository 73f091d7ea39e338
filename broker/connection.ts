/**
 * One client's connection. Cuts what arrives into packets, refuses what MQTT does not allow, handles the chat packets
 * itself (PUBLISH on chat topics, PUBACK of the hub's messages, SUBSCRIBE to chat topics, PINGREQ) and gives the rest to Aedes
 * through an AedesStream. Guarantees: nothing is acknowledged before it is done; acknowledgements leave in order of arrival; memory
 * is bounded, before and after CONNECT; nothing is sent before CONNACK. Closing is done here and nowhere else.
 */
import type { AedesAdapter } from './aedes-adapter.js'
import { AedesStream } from './aedes-stream.js'
import { Assembly } from './assembly.js'
import type { Config } from './config.js'
import type { Deadlines, Watched } from './deadlines.js'
import { type Refusal, refuse } from './errors.js'
import type { Hub, OpenedSession } from './hub.js'
import { hubPacketIdMax } from './in-flight.js'
import { Inbound } from './inbound.js'
import type { Logger } from './logger.js'
import type { Metrics } from './metrics.js'
import { ackBytes, connackBytes, type Frame, pingrespBytes } from './mqtt/encode.js'
import {
  assertHeader,
  type Connect,
  ProtocolViolation,
  packetType,
  readAckId,
  readConnect,
  readSubscribe,
  readUnsubscribe,
} from './mqtt/validate.js'
import { Outbox, pubackBytes } from './outbox.js'
import { messageIdOf } from './payloads.js'
import type { Caller, Identity } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import type { Outlet, Session } from './session.js'
import { Subscriptions } from './subscriptions.js'
import type { TopicCache } from './topic-cache.js'
import type { Transport } from './transport.js'

/** What all connections of a server share. */
export interface ConnectionWorld {
  config: Config
  logger: Logger
  metrics: Metrics
  hub: Hub
  plugins: PluginHost
  adapter: AedesAdapter
  deadlines: Deadlines
  topics: TopicCache
  onClosed(connection: Connection): void
}

/** Publishes of one connection that may be under way; past it the socket is not read. */
const pendingMax = 1_024
const pendingBytesMax = 4 * 1_048_576
/** A socket's `drain` is only to be counted on above what it takes without complaint. */
const unsentBytesMin = 65_536
/** Bytes that Aedes may leave unread; past it the socket is not read. */
const aedesUnreadBytesMax = 1_048_576
/** Inbound QoS 2 messages between PUBLISH and PUBREL. */
const qos2Max = 1_024
/** A connection is looked at least this often. */
const checkMs = 20_000

type State = 'waiting' | 'connecting' | 'open' | 'closed'

export class Connection implements Outlet, Watched {
  dueSecond = 0
  state: State = 'waiting'
  connect: Connect | undefined
  caller: Caller = { user: '', device: '' }
  identity: Identity | undefined
  opened: OpenedSession | undefined
  readonly world: ConnectionWorld
  readonly transport: Transport
  readonly #outbox: Outbox
  #stream: AedesStream | undefined
  #subscriptions: Subscriptions | undefined
  readonly #rest = new Assembly()
  /** Bytes of the rest from which on it is worth looking at again. */
  #restNeeded = 0
  #held = false
  #packetBytesMax: number
  #pending = 0
  #pendingBytes = 0
  #slots: Inbound[] = []
  #slotsSettled = 0
  /** Chat messages of QoS 2 that wait for PUBREL. */
  #qos2: Set<number> | undefined
  /** How far the unacknowledged application messages are that Aedes has sent. */
  #aedesSent: Map<number, 'qos1' | 'qos2' | 'released'> | undefined
  #beforeConnack: Buffer[] | undefined
  #heardMs = performance.now()
  readonly #sinceMs = performance.now()
  #stuck: { sinceMs: number; sentBytes: number } | undefined
  #sentBytes = 0

  constructor(transport: Transport, world: ConnectionWorld) {
    this.transport = transport
    this.world = world
    this.#outbox = new Outbox(transport)
    this.#packetBytesMax = world.config.connectBytesMax
    transport.listen({
      data: (bytes) => this.#data(bytes),
      drained: () => this.#drained(),
      closed: (why) => this.#closed(why),
    })
    world.deadlines.watch(this, world.config.connectTimeoutMs)
  }

  get session(): Session | undefined {
    return this.opened?.session
  }

  get isClosed(): boolean {
    return this.state === 'closed'
  }

  get keepaliveMs(): number {
    return (this.connect?.keepaliveSeconds ?? 0) * 1_500
  }

  // --- outlet -----------------------------------------------------------------------------------------------------

  get unsentBytes(): number {
    return this.#outbox.unsentBytes
  }

  sendFrame(frame: Frame, packetId: number): void {
    this.#sentBytes += frame.bytes.length
    this.#outbox.sendFrame(frame, packetId)
  }

  sendBytes(bytes: Buffer): void {
    this.#sentBytes += bytes.length
    this.#outbox.sendBytes(bytes)
  }

  /** Ends the connection after what is queued has been handed over. */
  close(why: string): void {
    if (this.state === 'closed') return
    this.#outbox.flush()
    this.transport.end()
    this.#closed(why)
  }

  // --- what arrives -----------------------------------------------------------------------------------------------

  #data(bytes: Buffer): void {
    this.#heardMs = performance.now()
    if (this.transport.unsentBytes > Math.max(this.world.config.socketBytesMax, unsentBytesMin)) this.#hold()
    if (!this.#held && this.#rest.length === 0) return this.#process(bytes)
    this.#rest.append(bytes)
    if (!this.#held && this.#rest.length >= this.#restNeeded) this.#process(this.#rest.take())
  }

  #process(bytes: Buffer): void {
    let at = 0
    let total: number | undefined
    try {
      while (!this.isClosed && !this.#held) {
        if (this.state === 'waiting' && at < bytes.length && bytes[at] !== 0x10)
          throw new ProtocolViolation('the first packet is not CONNECT [MQTT-3.1.0-1]')
        total = bytes.length - at < 2 ? undefined : this.#lengthAt(bytes, at)
        if (total === undefined || at + total > bytes.length) break
        this.#packet(bytes, at, at + total)
        at += total
      }
    } catch (error) {
      return this.#violated(error)
    }
    if (this.isClosed || at === bytes.length) return
    // A copy, since a short rest must not keep the whole chunk that it came in.
    this.#rest.append(bytes.subarray(at))
    this.#restNeeded = this.#held ? 0 : (total ?? 0)
  }

  #lengthAt(bytes: Buffer, at: number): number | undefined {
    let length = 0
    for (let i = 1; i < 5; i++) {
      const digit = bytes[at + i]
      if (digit === undefined) return undefined
      length |= (digit & 0x7f) << (7 * (i - 1))
      if (digit < 0x80) {
        const total = i + 1 + length
        if (total > this.#packetBytesMax) throw new ProtocolViolation(`a packet of ${total} bytes; the limit is ${this.#packetBytesMax}`)
        return total
      }
    }
    throw new ProtocolViolation('a remaining length of more than 4 bytes [MQTT-2.2.3]')
  }

  #violated(error: unknown): void {
    if (!(error instanceof ProtocolViolation)) {
      this.world.logger.error({ err: error, ...this.description() }, 'a packet could not be handled')
      return this.close('a fault of the server')
    }
    this.world.metrics.violations.inc()
    if (error.connackCode !== undefined && this.state === 'waiting') this.sendBytes(connackBytes(0, error.connackCode))
    this.close(error.message)
  }

  #packet(bytes: Buffer, at: number, end: number): void {
    const first = bytes[at] as number
    const start = end - this.#bodyLength(bytes, at, end)
    assertHeader(first, end - start)
    const type = first >> 4
    if (this.state !== 'open') {
      if (type !== packetType.connect) throw new ProtocolViolation('the first packet is not CONNECT [MQTT-3.1.0-1]')
      return this.#connect(Buffer.from(bytes.subarray(at, end)), start - at)
    }
    switch (type) {
      case packetType.publish:
        return this.#publish(bytes, at, start, end)
      case packetType.puback:
      case packetType.pubrec:
      case packetType.pubcomp:
        return this.#acknowledged(type, bytes, at, start, end)
      case packetType.pubrel:
        return this.#released(bytes, at, start, end)
      case packetType.subscribe:
        return this.#subscriptions?.subscribe(readSubscribe(bytes, start, end))
      case packetType.unsubscribe:
        this.#subscriptions?.unsubscribe(readUnsubscribe(bytes, start, end).filters)
        return this.#give(bytes, at, end)
      case packetType.pingreq:
        return this.sendBytes(pingrespBytes)
      case packetType.disconnect:
        return this.#give(bytes, at, end)
      default:
        throw new ProtocolViolation('a second CONNECT [MQTT-3.1.0-2]')
    }
  }

  #bodyLength(bytes: Buffer, at: number, end: number): number {
    let header = 2
    while ((bytes[at + header - 1] as number) >= 0x80) header++
    return end - at - header
  }

  /** To Aedes, as bytes of its own. */
  #give(bytes: Buffer, at: number, end: number): void {
    const stream = this.#stream as AedesStream
    stream.give(Buffer.from(bytes.subarray(at, end)))
    if (stream.waitingBytes > aedesUnreadBytesMax) this.#hold()
  }

  giveToAedes(packet: Buffer): void {
    this.#stream?.give(packet)
  }

  #hold(): void {
    if (this.#held) return
    this.#held = true
    this.transport.pause()
  }

  #release(): void {
    if (!this.#held || this.state === 'closed') return
    this.#held = false
    if (this.#rest.length > 0) this.#process(this.#rest.take())
    if (!this.#held && !this.isClosed) this.transport.resume()
  }

  // --- connecting -------------------------------------------------------------------------------------------------

  #connect(packet: Buffer, start: number): void {
    const connect = readConnect(packet, start, packet.length)
    this.connect = connect
    // A client without id cannot come back for its session [MQTT-3.1.3-8].
    if (connect.clientId === '' && !connect.clean) throw new ProtocolViolation('a persistent session needs a client id [MQTT-3.1.3-8]', 2)
    this.state = 'connecting'
    this.#hold()
    this.#beforeConnack = []
    this.#stream = new AedesStream({
      onPacket: (bytes) => this.#fromAedes(bytes),
      onDestroy: (error) => this.close(error?.message ?? 'disconnected'),
      onRead: () => {
        if (this.state === 'open' && this.#hasRoom(1)) this.#release()
      },
      // What waited for the session is bounded, and nothing is read from the client until it has left.
      isCongested: () => this.state === 'open' && this.unsentBytes > this.world.config.socketBytesMax,
    })
    this.#subscriptions = new Subscriptions(this)
    this.world.adapter.handle(this, this.#stream)
    this.#stream.give(packet)
  }

  /** CONNACK has left, and what application topics had waiting: everything may flow. Called by the adapter. */
  connected(): void {
    if (this.state !== 'connecting') return
    this.state = 'open'
    this.#packetBytesMax = this.world.config.packetBytesMax
    this.world.deadlines.watch(this, this.#nextCheckMs(performance.now()))
    if (this.opened !== undefined) this.world.hub.start(this.opened)
    this.world.plugins.connected(this.caller)
    this.#release()
  }

  #fromAedes(packet: Buffer): void {
    if (this.state === 'closed') return
    const type = (packet[0] as number) >> 4
    if (type === 2) return this.#connack(packet)
    if (this.#beforeConnack !== undefined) {
      this.#beforeConnack.push(packet)
      return
    }
    if (type === 9) return this.#subscriptions?.granted(packet)
    if (type === packetType.publish || type === packetType.pubrel) this.#noteSent(packet, type)
    this.sendBytes(packet)
  }

  /** Aedes knows of a session only what concerns application topics [MQTT-3.2.2-2]. */
  #connack(packet: Buffer): void {
    const present = packet[2] === 1 || this.opened?.present === true
    const code = packet[3] as number
    this.sendBytes(connackBytes(code === 0 && present ? 1 : 0, code))
    const held = this.#beforeConnack ?? []
    this.#beforeConnack = undefined
    for (const each of held) this.#fromAedes(each)
  }

  #noteSent(packet: Buffer, type: number): void {
    const qos = ((packet[0] as number) >> 1) & 3
    if (qos === 0) return
    const start = packet.length - this.#bodyLength(packet, 0, packet.length)
    this.#aedesSent ??= new Map()
    if (type === packetType.pubrel) this.#aedesSent.set(packet.readUInt16BE(start), 'released')
    else this.#aedesSent.set(packet.readUInt16BE(start + 2 + packet.readUInt16BE(start)), qos === 1 ? 'qos1' : 'qos2')
  }

  // --- acknowledgements -------------------------------------------------------------------------------------------

  #acknowledged(type: number, bytes: Buffer, at: number, start: number, end: number): void {
    const packetId = readAckId(bytes, start)
    const isPuback = type === packetType.puback
    if (packetId <= hubPacketIdMax) {
      if (isPuback) this.session?.acknowledge(packetId)
      else if (this.session?.inFlight.has(packetId))
        throw new ProtocolViolation(`a QoS 1 message was answered by packet type ${type} [MQTT-4.3.2-2]`)
      return
    }
    const stage = this.#aedesSent?.get(packetId)
    if (stage === undefined) {
      // Of an earlier connection: only PUBREC is owed an answer.
      if (type === packetType.pubrec) this.#give(bytes, at, end)
      return
    }
    const isExpected = isPuback ? stage === 'qos1' : type === packetType.pubcomp ? stage === 'released' : stage !== 'qos1'
    if (!isExpected) throw new ProtocolViolation(`packet type ${type} does not answer what was sent as ${packetId} [MQTT-4.3.2-2, 4.3.3-2]`)
    if (type === packetType.pubrec) this.#aedesSent?.set(packetId, 'released')
    else this.#aedesSent?.delete(packetId)
    this.#give(bytes, at, end)
  }

  #released(bytes: Buffer, at: number, start: number, end: number): void {
    const packetId = readAckId(bytes, start)
    if (this.#qos2?.delete(packetId)) this.sendBytes(ackBytes(packetType.pubcomp, packetId))
    else this.#give(bytes, at, end)
  }

  // --- publishing -------------------------------------------------------------------------------------------------

  #publish(bytes: Buffer, at: number, start: number, end: number): void {
    const first = bytes[at] as number
    const qos = ((first >> 1) & 3) as 0 | 1 | 2
    const idBytes = qos === 0 ? 0 : 2
    if (start + 2 > end) throw new ProtocolViolation('PUBLISH without a topic')
    const topicEnd = start + 2 + bytes.readUInt16BE(start)
    if (topicEnd + idBytes > end) throw new ProtocolViolation('the topic is longer than its packet')
    const { topic, target } = this.world.topics.get(bytes, start + 2, topicEnd)
    const packetId = qos === 0 ? 0 : bytes.readUInt16BE(topicEnd)
    if (qos !== 0 && packetId === 0) throw new ProtocolViolation('packet id 0 [MQTT-2.3.1-1]')
    const { caller } = this
    const payload = bytes.subarray(topicEnd + idBytes, end)
    const id = target.kind === 'route' ? target.id : ''
    const inbound = new Inbound(this, caller, topic, id, payload, qos, (first & 1) !== 0, (first & 8) !== 0, packetId)
    const { plugins } = this.world
    let error: Refusal | undefined = plugins.authorizePublish(caller, inbound)
    if (error === undefined && target.kind === 'open') {
      if (plugins.authorizeOpenPublish(caller, topic)) return this.#give(bytes, at, end)
      error = refuse(
        'forbidden',
        `no rule of PARLEY_TOPICS lets ${caller.user === '' ? 'an anonymous client' : caller.user} publish to ${topic}`,
      )
    } else if (target.kind === 'reserved') error ??= refuse('forbidden', `${topic} is reserved`)
    else if (target.kind === 'unknown') error ??= refuse('not_found', `${topic}: ${target.why}`)
    if (caller.user === '') error ??= refuse('forbidden', 'an anonymous client cannot chat')
    if (!this.#enqueue(inbound)) return
    if (error !== undefined) inbound.done({ kind: 'refused', id: target.kind === 'route' ? messageIdOf(payload) : undefined, error })
    else if (target.kind === 'route') plugins.route(target.pattern, inbound)
  }

  /** False for a QoS 2 message that is already here. */
  #enqueue(inbound: Inbound): boolean {
    if (inbound.qos === 2) {
      this.#qos2 ??= new Set()
      const isRepeat = this.#qos2.has(inbound.packetId)
      if (!isRepeat && this.#qos2.size >= qos2Max) throw new ProtocolViolation(`more than ${qos2Max} QoS 2 messages wait for PUBREL`)
      this.#qos2.add(inbound.packetId)
      if (isRepeat) {
        // The first one answers, if it has not yet.
        const isUnderWay = this.#slots.some((slot) => slot.packetId === inbound.packetId && slot.qos === 2)
        if (!isUnderWay) this.sendBytes(ackBytes(packetType.pubrec, inbound.packetId))
        return false
      }
    }
    this.#pending++
    this.#pendingBytes += inbound.payload.length
    if (inbound.qos > 0) this.#slots.push(inbound)
    if (!this.#hasRoom(1)) this.#hold()
    return true
  }

  /** For publishes under way; `share` 0.5: half of the room is free. */
  #hasRoom(share: number): boolean {
    return this.#pending < pendingMax * share && this.#pendingBytes < pendingBytesMax * share
  }

  /** An inbound has got its outcome: acknowledge all that are settled, up to the first that is not. */
  settled(payloadBytes: number): void {
    this.#pending--
    this.#pendingBytes -= payloadBytes
    if (this.state === 'closed') return
    const slots = this.#slots
    let index = this.#slotsSettled
    for (; index < slots.length && (slots[index] as Inbound).settled; index++) {
      const { qos, packetId } = slots[index] as Inbound
      if (qos === 1) this.#sendPuback(packetId)
      else this.sendBytes(ackBytes(packetType.pubrec, packetId))
    }
    if (index === slots.length) {
      slots.length = 0
      index = 0
    } else if (index > 512) {
      slots.splice(0, index)
      index = 0
    }
    this.#slotsSettled = index
    this.#releaseIfRoom()
  }

  #sendPuback(packetId: number): void {
    this.#sentBytes += pubackBytes
    this.#outbox.sendPuback(packetId)
  }

  /** Reads on when what stopped it is over: publishes under way, packets that Aedes has not read, answers that the client has not. */
  #releaseIfRoom(): void {
    if (!this.#held || this.state !== 'open' || !this.#hasRoom(0.5)) return
    if (this.transport.unsentBytes > unsentBytesMin) return
    if ((this.#stream?.waitingBytes ?? 0) <= aedesUnreadBytesMax) this.#release()
  }

  // --- time and the end -------------------------------------------------------------------------------------------

  #drained(): void {
    this.#stuck = undefined
    this.session?.pump()
    this.#stream?.emit('drain')
    this.#releaseIfRoom()
  }

  #nextCheckMs(nowMs: number): number {
    let next = Math.min(checkMs, this.world.config.slowClientMs)
    if (this.keepaliveMs > 0) next = Math.min(next, this.#heardMs + this.keepaliveMs - nowMs)
    if (this.identity?.expiresTs !== undefined) next = Math.min(next, this.identity.expiresTs - Date.now())
    return Math.max(next, 0)
  }

  check(nowMs: number): number | undefined {
    const { config } = this.world
    if (this.state === 'closed') return undefined
    if (this.state !== 'open') {
      const left = this.#sinceMs + config.connectTimeoutMs * (this.state === 'waiting' ? 1 : 3) - nowMs
      if (left > 0) return left
      this.close(this.state === 'waiting' ? `no CONNECT within ${config.connectTimeoutMs} ms` : 'connecting took too long')
      return undefined
    }
    if (this.identity?.expiresTs !== undefined && Date.now() >= this.identity.expiresTs) this.close('the token has expired')
    else if (this.keepaliveMs > 0 && !this.#held && nowMs >= this.#heardMs + this.keepaliveMs)
      this.#lost(`nothing heard for ${this.keepaliveMs} ms [MQTT-3.1.2-24]`)
    else if (this.#isStuck(nowMs)) this.#lost(`nothing read for ${config.slowClientMs} ms`)
    return this.#nextCheckMs(nowMs)
  }

  /** The peer is not there or does not read: nothing more can be handed over. */
  #lost(why: string): void {
    this.#outbox.clear()
    this.transport.destroy()
    this.#closed(why)
  }

  #isStuck(nowMs: number): boolean {
    const { unsentBytes } = this
    const sentBytes = this.#sentBytes - unsentBytes
    if (unsentBytes === 0 || this.#stuck === undefined || this.#stuck.sentBytes !== sentBytes) {
      this.#stuck = unsentBytes === 0 ? undefined : { sinceMs: nowMs, sentBytes }
      return false
    }
    return nowMs - this.#stuck.sinceMs >= this.world.config.slowClientMs
  }

  #closed(why: string): void {
    if (this.state === 'closed') return
    const wasOpen = this.state === 'open'
    this.state = 'closed'
    this.#rest.take()
    this.#outbox.clear()
    this.world.deadlines.forget(this)
    this.world.logger.debug({ ...this.description(), why }, 'connection closed')
    if (this.opened !== undefined) this.world.hub.close(this.opened.session)
    if (wasOpen) this.world.plugins.disconnected(this.caller)
    if (this.#stream !== undefined) {
      this.#stream.destroyed = true
      this.#stream.emit('close')
    }
    this.world.onClosed(this)
  }

  description(): { user: string; device: string; address: string; transport: string } {
    return { user: this.caller.user, device: this.caller.device, address: this.transport.address, transport: this.transport.kind }
  }
}
