/**
 * One client's connection. Cuts what arrives into packets, refuses what MQTT does not allow, handles the chat packets
 * itself (CONNECT, PUBLISH on chat topics, PUBACK of the hub's messages, SUBSCRIBE to chat topics, PINGREQ) and gives the rest to Aedes
 * through an ApplicationLink. Guarantees: nothing is acknowledged before it is done; acknowledgements leave in order of arrival; memory
 * is bounded, before and after CONNECT; nothing is sent before CONNACK. Closing is done here and nowhere else.
 */
import type { AedesAdapter } from './aedes-adapter.js'
import { ApplicationLink } from './application-link.js'
import type { Config } from './config.js'
import type { Deadlines, Watched } from './deadlines.js'
import { type Refusal, refuse } from './errors.js'
import type { Hub, OpenedSession } from './hub.js'
import { hubPacketIdMax } from './in-flight.js'
import { Inbound } from './inbound.js'
import { type Acknowledger, InboundQueue } from './inbound-queue.js'
import { keptCopy } from './kept-copy.js'
import type { Logger } from './logger.js'
import type { Metrics } from './metrics.js'
import { ackBytes, connackBytes, connectBytes, type Frame, pingrespBytes } from './mqtt/encode.js'
import { PacketCutter, type PacketSink } from './mqtt/packet-cutter.js'
import { type Connect, ProtocolViolation, packetType, readAckId, readConnect, readSubscribe, readUnsubscribe } from './mqtt/validate.js'
import { Outbox, pubackBytes } from './outbox.js'
import { type Identity, nobody } from './plugin.js'
import type { PluginHost } from './plugin-host.js'
import { refusePublish } from './refuse-publish.js'
import type { Outlet, Session } from './session.js'
import type { StoredAck } from './stored-ack.js'
import { Subscriptions } from './subscriptions.js'
import type { KnownTopic, TopicCache } from './topic-cache.js'
import type { Transport, TransportEvents } from './transport.js'

/** What all connections of a server share. */
export interface ConnectionWorld {
  config: Config
  logger: Logger
  metrics: Metrics
  hub: Hub
  plugins: PluginHost
  adapter: AedesAdapter
  /** Verifies who connects and opens the session; the CONNACK code, 0 when welcome. */
  admit(connection: Connection, password: string | undefined): Promise<number | undefined>
  deadlines: Deadlines
  topics: TopicCache
  onClosed(connection: Connection): void
}

/** A socket's `drain` is only to be counted on above what it takes without complaint. */
const unsentBytesMin = 65_536
const welcome = 0 // CONNACK code
/** A connection is looked at least this often. */
const checkMs = 20_000

type State = 'waiting' | 'connecting' | 'open' | 'closed'

export class Connection implements Outlet, Watched, TransportEvents, PacketSink, Acknowledger {
  dueSecond = 0
  state: State = 'waiting'
  connect: Connect | undefined
  caller = nobody
  identity: Identity | undefined
  opened: OpenedSession | undefined
  session: Session | undefined
  readonly #outbox: Outbox
  #link: ApplicationLink | undefined
  #subscriptions: Subscriptions | undefined
  readonly #cutter: PacketCutter
  #publishes: InboundQueue | undefined
  #lastTopic: KnownTopic | undefined
  #heardMs = performance.now()
  readonly #sinceMs = this.#heardMs
  #stuck: { sinceMs: number; sentBytes: number } | undefined
  #sentBytes = 0

  constructor(
    readonly transport: Transport,
    readonly world: ConnectionWorld,
  ) {
    this.#outbox = new Outbox(transport)
    this.#cutter = new PacketCutter(world.config.connectBytesMax, this)
    transport.listen(this)
    world.deadlines.watch(this, world.config.connectTimeoutMs)
  }

  get subscriptions(): Subscriptions {
    this.#subscriptions ??= new Subscriptions(this)
    return this.#subscriptions
  }

  /** Made for the first publish: most connections are silent most of the time. */
  get #inbounds(): InboundQueue {
    this.#publishes ??= new InboundQueue(this)
    return this.#publishes
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
    this.#sentBytes += frame.length
    this.#outbox.sendFrame(frame, packetId)
  }

  sendBytes(bytes: Buffer): void {
    this.#sentBytes += bytes.length
    this.#outbox.sendBytes(bytes)
  }

  sendAck(ack: StoredAck): void {
    this.#sentBytes += ack.length
    this.#outbox.sendAck(ack)
  }

  /** Ends the connection after what is queued has been handed over. */
  close(why: string): void {
    if (this.state === 'closed') return
    this.#outbox.flush()
    this.transport.end()
    this.closed(why)
  }

  // --- what arrives -----------------------------------------------------------------------------------------------

  data(bytes: Buffer): void {
    this.#heardMs = performance.now()
    if (this.transport.unsentBytes > Math.max(this.world.config.socketBytesMax, unsentBytesMin)) this.#hold()
    if (this.#cutter.isHeld) this.transport.pause()
    try {
      this.#cutter.take(bytes)
    } catch (error) {
      this.#violated(error)
    }
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

  packet(bytes: Buffer, at: number, start: number, end: number): void {
    const type = (bytes[at] as number) >> 4
    if (this.state !== 'open') return this.#connect(bytes, at, start, end)
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
        return this.subscriptions.subscribe(readSubscribe(bytes, start, end))
      case packetType.unsubscribe:
        return this.subscriptions.unsubscribe(readUnsubscribe(bytes, start, end))
      case packetType.pingreq:
        return this.sendBytes(pingrespBytes)
      case packetType.disconnect:
        return this.#link === undefined ? this.close('disconnected') : this.#give(bytes, at, end)
      default:
        throw new ProtocolViolation('a second CONNECT [MQTT-3.1.0-2]')
    }
  }

  #give(bytes: Buffer, at: number, end: number): void {
    this.giveToAedes(Buffer.from(bytes.subarray(at, end)))
  }

  giveToAedes(packet: Buffer): void {
    if (this.isClosed) return
    const link = this.#link ?? this.#engage(connectBytes(this.connect as Connect))
    link.give(packet)
    if (link.isCongested) this.#hold()
  }

  /** Nothing is read until Aedes is ready; it may say so while it is being opened. */
  #engage(connect: Buffer): ApplicationLink {
    this.#hold()
    this.#link = new ApplicationLink(this)
    this.#link.open(connect)
    return this.#link
  }

  /** The transport is paused when more comes: most are released before, and stopping and starting to read costs a connect more than waiting. */
  #hold(): void {
    this.#cutter.isHeld = true
  }

  #release(): void {
    if (!this.#cutter.isHeld || this.isClosed || this.#link?.isReady === false) return
    try {
      this.#cutter.release()
    } catch (error) {
      return this.#violated(error)
    }
    if (!this.#cutter.isHeld && !this.isClosed) this.transport.resume()
  }

  // --- connecting -------------------------------------------------------------------------------------------------

  #connect(bytes: Buffer, at: number, start: number, end: number): void {
    const { connect, password } = readConnect(bytes, start, end)
    this.connect = connect
    if (connect.clientId === '' && !connect.clean) throw new ProtocolViolation('a persistent session needs a client id [MQTT-3.1.3-8]', 2)
    this.state = 'connecting'
    this.#hold()
    const withWill = connect.willTopic === undefined ? undefined : keptCopy(bytes.subarray(at, end))
    const admitted = (code: number | undefined): void => {
      if (code === undefined || this.isClosed) return this.close('the connect could not be handled')
      if (code === welcome && this.world.adapter.isNeededBy(connect)) return void this.#engage(withWill ?? connectBytes(connect))
      this.answerConnect(false, code)
      this.connected([])
    }
    this.world
      .admit(this, password)
      .then(admitted)
      .catch((error) => this.#violated(error))
  }

  /** `isPresent`: Aedes has a session; it knows only of application topics [MQTT-3.2.2-2]. */
  answerConnect(isPresent: boolean, code: number): void {
    if (this.state !== 'connecting') return
    const present = code === welcome && (isPresent || this.opened?.present === true)
    this.sendBytes(connackBytes(present ? 1 : 0, code))
    if (code !== welcome) this.close('the connect was refused')
  }

  /** CONNACK has left, and what application topics had waiting: everything may flow. The adapter calls it for who has a link. */
  connected(restored: readonly string[]): void {
    if (this.isClosed) return
    this.#link?.ready()
    if (restored.length > 0) this.subscriptions.restored(restored)
    if (this.state === 'connecting') {
      this.state = 'open'
      this.#cutter.packetBytesMax = this.world.config.packetBytesMax
      if (this.keepaliveMs === 0) this.transport.keepAlive()
      this.world.deadlines.watch(this, this.#nextCheckMs(performance.now()))
      if (this.opened !== undefined) this.world.hub.start(this.opened)
      this.opened = undefined
      this.world.plugins.connected(this.caller)
      this.#outbox.flush() // Of a crowd the first need not wait for the last.
    }
    this.releaseIfRoom()
  }

  // --- acknowledgements -------------------------------------------------------------------------------------------

  #acknowledged(type: number, bytes: Buffer, at: number, start: number, end: number): void {
    const packetId = readAckId(bytes, start)
    if (packetId <= hubPacketIdMax) {
      if (type === packetType.puback) this.session?.acknowledge(packetId)
      else if (this.session?.inFlight.has(packetId))
        throw new ProtocolViolation(`a QoS 1 message was answered by packet type ${type} [MQTT-4.3.2-2]`)
      return
    }
    // Without a link nothing was sent: only PUBREC is owed an answer.
    if (this.#link?.acks.answer(type, packetId) ?? type === packetType.pubrec) this.#give(bytes, at, end)
  }

  #released(bytes: Buffer, at: number, start: number, end: number): void {
    const packetId = readAckId(bytes, start)
    if (this.#publishes?.release(packetId)) this.sendBytes(ackBytes(packetType.pubcomp, packetId))
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
    this.#lastTopic = this.world.topics.get(bytes, start + 2, topicEnd, this.#lastTopic)
    const { topic, target } = this.#lastTopic
    const packetId = qos === 0 ? 0 : bytes.readUInt16BE(topicEnd)
    if (qos !== 0 && packetId === 0) throw new ProtocolViolation('packet id 0 [MQTT-2.3.1-1]')
    const { caller } = this
    const payload = bytes.subarray(topicEnd + idBytes, end)
    const id = target.kind === 'route' ? target.id : ''
    const inbound = new Inbound(this, caller, topic, id, payload, qos, (first & 1) !== 0, (first & 8) !== 0, packetId)
    let error: Refusal | undefined = this.world.plugins.authorizePublish(caller, inbound)
    if (error === undefined && target.kind === 'open') {
      if (this.world.plugins.authorizeOpenPublish(caller, topic)) return this.#give(bytes, at, end)
      const who = caller.user === '' ? 'an anonymous client' : caller.user
      error = refuse('forbidden', `no rule of PARLEY_TOPICS lets ${who} publish to ${topic}`)
    } else if (target.kind === 'reserved') error ??= refuse('forbidden', `${topic} is reserved`)
    else if (target.kind === 'unknown') error ??= refuse('not_found', `${topic}: ${target.why}`)
    if (caller.user === '') error ??= refuse('forbidden', 'an anonymous client cannot chat')
    if (!this.#inbounds.add(inbound)) return
    if (!this.#inbounds.hasRoom(1)) this.#hold()
    if (error !== undefined) refusePublish(inbound, target, error)
    else if (target.kind === 'route') this.world.plugins.route(target.pattern, inbound)
  }

  /** An inbound has got its outcome. */
  settled(inbound: Inbound): void {
    if (this.isClosed) return
    this.#inbounds.settled(inbound)
    this.releaseIfRoom()
  }

  sendPuback(packetId: number): void {
    this.#sentBytes += pubackBytes
    this.#outbox.sendPuback(packetId)
  }

  sendPubrec(packetId: number): void {
    this.sendBytes(ackBytes(packetType.pubrec, packetId))
  }

  /** Reads on when what stopped it is over: publishes under way, packets that Aedes has not read, answers that the client has not. */
  releaseIfRoom(): void {
    if (!this.#cutter.isHeld || this.state !== 'open' || this.#publishes?.hasRoom(0.5) === false) return
    if (this.transport.unsentBytes <= unsentBytesMin && !this.#link?.isCongested) this.#release()
  }

  // --- time and the end -------------------------------------------------------------------------------------------

  drained(): void {
    this.#stuck = undefined
    this.session?.pump()
    this.#link?.drained()
    this.releaseIfRoom()
  }

  #nextCheckMs(nowMs: number): number {
    let next = Math.min(checkMs, this.world.config.slowClientMs)
    if (this.keepaliveMs > 0) next = Math.min(next, this.#heardMs + this.keepaliveMs - nowMs)
    if (this.identity?.expiresTs !== undefined) next = Math.min(next, this.identity.expiresTs - Date.now())
    return Math.max(next, 0)
  }

  check(nowMs: number): number | undefined {
    if (this.state === 'closed') return undefined
    if (this.state !== 'open') {
      const left = this.#sinceMs + this.world.config.connectTimeoutMs * (this.state === 'waiting' ? 1 : 3) - nowMs
      if (left > 0) return left
      this.close(this.state === 'waiting' ? `no CONNECT within ${this.world.config.connectTimeoutMs} ms` : 'connecting took too long')
      return undefined
    }
    if (this.identity?.expiresTs !== undefined && Date.now() >= this.identity.expiresTs) this.close('the token has expired')
    else if (this.keepaliveMs > 0 && !this.#cutter.isHeld && nowMs >= this.#heardMs + this.keepaliveMs)
      this.#lost(`nothing heard for ${this.keepaliveMs} ms [MQTT-3.1.2-24]`)
    else if (this.#isStuck(nowMs)) this.#lost(`nothing read for ${this.world.config.slowClientMs} ms`)
    return this.#nextCheckMs(nowMs)
  }

  /** The peer is not there or does not read: nothing more can be handed over. */
  #lost(why: string): void {
    this.#outbox.clear()
    this.transport.destroy()
    this.closed(why)
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

  closed(why: string): void {
    if (this.state === 'closed') return
    const wasOpen = this.state === 'open'
    this.state = 'closed'
    this.#cutter.stop()
    this.#outbox.clear()
    this.world.deadlines.forget(this)
    this.#subscriptions?.end()
    this.world.logger.debug({ ...this.description(), why }, 'connection closed')
    if (this.session !== undefined) this.world.hub.close(this.session)
    if (wasOpen) this.world.plugins.disconnected(this.caller)
    this.#link?.close()
    this.world.onClosed(this)
  }

  description(): { user: string; device: string; address: string; transport: string } {
    return { user: this.caller.user, device: this.caller.device, address: this.transport.address, transport: this.transport.kind }
  }
}
