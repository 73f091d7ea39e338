/**
 * The registry of a cluster, in Redis. A node writes its own devices behind and knows them without Redis; of the others it knows what Redis
 * says, as far as the nodes that claimed it live. Nothing in Redis has to last: a node whose entry or lease is gone joins anew and claims
 * all it has, and until all have done so nobody is said to be gone. Also the bound of a takeover whose word on the bus was lost: the claim
 * finds the node that had the device and leaves it a note.
 */
import type { Bus } from '../bus.js'
import type { DeviceClaim, DeviceRegistry, DeviceWatcher, Standing } from '../device-registry.js'
import type { Logger } from '../logger.js'
import { OwnDevices } from '../own-devices.js'
import { Claims, type Held, type UserClaims } from './claims.js'
import { connectRedis, type RedisConnection } from './connect.js'
import { beatMs, LivingNodes, nodeOf } from './living-nodes.js'

export interface RedisDeviceRegistryOptions {
  /** As PARLEY_REDIS_URL. */
  url: string
  prefix: string
  bus: Bus
  logger: Logger
  graceMs: number
  /** A device of this node has a later session elsewhere. */
  overtaken(user: string, device: string, epoch: number): void
  observeRejoined?(): void
}

/** Commands under way at once. */
const batchMax = 500
/** All claims are repeated in so many beats, whatever was lost without a trace. */
const beatsOfRound = 600
const notesMax = 1_000
const noteSeconds = 60
/** A node that cannot claim all it has for so long does not keep the others from knowing who is gone. */
const claimingMsMax = 30_000
const busKind = 'devices'

interface Change {
  claim: DeviceClaim
  /** Of a release. */
  goneTs?: number
  /** Others are to look at the user then. */
  isTold: boolean
}

export class RedisDeviceRegistry implements DeviceRegistry {
  readonly #options: RedisDeviceRegistryOptions
  readonly #redis: RedisConnection
  readonly #nodes: LivingNodes
  readonly #claims: Claims
  readonly #own: OwnDevices
  readonly #watchers: DeviceWatcher[] = []
  /** Not written yet, by user and device. */
  readonly #changes = new Map<string, Change>()
  /** What is still to be claimed after joining. */
  #claiming: Iterator<DeviceClaim> | undefined
  #claimingMs = 0
  /** Of the round that repeats everything. */
  #repeating: Iterator<DeviceClaim> | undefined
  #isWriting = false
  #beating: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #living: string[] = []
  #wasWhole = false
  #wasBusUp = true
  #isClosed = false

  private constructor(options: RedisDeviceRegistryOptions, redis: RedisConnection) {
    const { prefix, bus, graceMs } = options
    this.#options = options
    this.#redis = redis
    this.#nodes = new LivingNodes(redis, prefix, bus.node)
    this.#claims = new Claims(redis, prefix)
    this.#own = new OwnDevices({ graceMs, gone: (claim, { goneTs, isLast }) => this.#gone(claim, goneTs, isLast) })
    bus.on(busKind, (message) => this.#changed(JSON.parse(message.toString()) as string[]))
  }

  /** Resolves when the node has joined; rejects with OperatorError when Redis cannot be used. */
  static async open(options: RedisDeviceRegistryOptions): Promise<RedisDeviceRegistry> {
    const redis = await connectRedis({ url: options.url, logger: options.logger, name: 'devices' })
    const registry = new RedisDeviceRegistry(options, redis)
    try {
      await registry.#nodes.beat(false)
    } catch (error) {
      registry.close()
      throw error
    }
    registry.#timer = setInterval(() => void registry.#beat(), beatMs).unref()
    // A server that took over, or started again, may have lost the last of what was written.
    const doubt = (): void => {
      registry.#nodes.doubt()
      registry.#claimAll()
      void registry.#beat()
    }
    redis.on('ready', doubt)
    // Of a Redis Cluster one server goes, and its replica takes over, while the connection stays.
    redis.on('-node', doubt)
    return registry
  }

  /** Nodes that live, this one included. */
  get nodes(): number {
    return this.#living.length
  }

  /** Devices that Redis may not know yet. */
  get unwritten(): number {
    return this.#changes.size + (this.#claiming === undefined ? 0 : this.#own.size)
  }

  // --- own devices --------------------------------------------------------------------------------------------------

  claim(claim: DeviceClaim): void {
    const isFirst = this.#own.claim(claim)
    this.#change({ claim, isTold: isFirst })
    if (isFirst) this.#changed([claim.user])
  }

  release(claim: DeviceClaim): void {
    this.#own.release(claim)
  }

  #gone(claim: DeviceClaim, goneTs: number, isLast: boolean): void {
    this.#change({ claim, goneTs, isTold: isLast })
    if (isLast) this.#changed([claim.user])
  }

  #change(change: Change): void {
    const key = `${change.claim.user}/${change.claim.device}`
    this.#changes.set(key, { ...change, isTold: change.isTold || this.#changes.get(key)?.isTold === true })
    if (this.#isWriting) return
    this.#isWriting = true
    setImmediate(() => void this.#writeAll())
  }

  #claimAll(): void {
    if (this.#claiming === undefined) this.#claimingMs = performance.now()
    this.#claiming = this.#own.all()
  }

  // --- writing ------------------------------------------------------------------------------------------------------

  /** Until all is written or Redis fails; the next beat goes on then. */
  async #writeAll(): Promise<void> {
    this.#isWriting = true
    while (!this.#isClosed && this.#redis.status === 'ready' && (this.#changes.size > 0 || this.#claiming !== undefined)) {
      const batch = this.#nextBatch()
      const results = await Promise.allSettled(batch.map((change) => this.#write(change)))
      const failed = batch.filter((_change, at) => results[at]?.status === 'rejected')
      for (const change of failed) this.#keep(change)
      const told = batch.filter((change) => change.isTold && !failed.includes(change)).map(({ claim }) => claim.user)
      if (told.length > 0) this.#options.bus.publish(busKind, Buffer.from(JSON.stringify(told)))
      if (failed.length === 0) continue
      if (this.#claiming !== undefined) this.#claimAll()
      break
    }
    this.#isWriting = false
  }

  #nextBatch(): Change[] {
    const batch: Change[] = []
    for (const [key, change] of this.#changes) {
      if (batch.length >= batchMax) return batch
      this.#changes.delete(key)
      batch.push(change)
    }
    while (batch.length < batchMax && this.#claiming !== undefined) {
      const next = this.#claiming.next()
      // Those of this batch are on their way: the others hear with the next beat that it is done.
      if (next.done) this.#claiming = undefined
      else batch.push({ claim: next.value, isTold: true })
    }
    return batch
  }

  #keep(change: Change): void {
    const key = `${change.claim.user}/${change.claim.device}`
    if (!this.#changes.has(key)) this.#changes.set(key, change)
  }

  async #write({ claim, goneTs }: Change): Promise<void> {
    const { user, device, epoch } = claim
    if (goneTs !== undefined) return this.#claims.release(claim, this.#options.bus.node, goneTs)
    // It has gone, or there is a later one.
    if (this.#own.of(user, device)?.epoch !== epoch) return
    const before = await this.#claims.claim(claim, this.#nodes.name)
    if (before === undefined || this.#nodes.isOwn(before.name)) return
    if (before.epoch > epoch) this.#options.overtaken(user, device, before.epoch)
    else if (before.epoch < epoch) await this.#leaveNote(nodeOf(before.name), `${user}/${device}/${epoch}`)
  }

  // --- takeovers ----------------------------------------------------------------------------------------------------

  #notesOf(node: string): string {
    return `${this.#options.prefix}overtaken:${node}`
  }

  async #leaveNote(node: string, note: string): Promise<void> {
    const key = this.#notesOf(node)
    await Promise.all([this.#redis.rpush(key, note), this.#redis.expire(key, noteSeconds)])
  }

  async #readNotes(): Promise<void> {
    const { bus, overtaken } = this.#options
    for (const note of (await this.#redis.lpop(this.#notesOf(bus.node), notesMax)) ?? []) {
      const [user, device, epoch] = note.split('/')
      if (user !== undefined && device !== undefined && Number.isSafeInteger(Number(epoch))) overtaken(user, device, Number(epoch))
    }
  }

  // --- beats --------------------------------------------------------------------------------------------------------

  #beat(): Promise<void> {
    this.#beating ??= this.#beatOnce()
      .catch((error) => this.#options.logger.debug({ err: error }, 'the registry of devices cannot be reached'))
      .finally(() => (this.#beating = undefined))
    return this.#beating
  }

  async #beatOnce(): Promise<void> {
    if (this.#isClosed || this.#redis.status !== 'ready') return
    const isClaiming = this.#claiming !== undefined && performance.now() - this.#claimingMs < claimingMsMax
    if (!(await this.#nodes.beat(isClaiming))) {
      this.#options.logger.warn(
        { devices: this.#own.size },
        'this node was taken for dead, or Redis has lost what it knew: claims all devices anew',
      )
      this.#options.observeRejoined?.()
      this.#claimAll()
    }
    this.#lookAround()
    await this.#readNotes()
    this.#repeat()
    if (!this.#isWriting) void this.#writeAll()
  }

  /** What a node said before it died, or while Redis or the bus did not work, is not true any more or was not heard. */
  #lookAround(): void {
    const living = this.#nodes.living()
    const hasDied = this.#living.some((name) => !living.includes(name))
    const isWhole = this.#nodes.isWhole()
    const { isUp } = this.#options.bus
    const isAll = hasDied || (isWhole && !this.#wasWhole) || (isUp && !this.#wasBusUp)
    this.#living = living
    this.#wasWhole = isWhole
    this.#wasBusUp = isUp
    if (isAll) this.#changed('all')
  }

  #repeat(): void {
    const count = Math.min(batchMax, Math.ceil(this.#own.size / beatsOfRound))
    for (let at = 0; at < count; at++) {
      this.#repeating ??= this.#own.all()
      const next = this.#repeating.next()
      if (next.done) this.#repeating = undefined
      else this.#keep({ claim: next.value, isTold: false })
    }
  }

  // --- asking -------------------------------------------------------------------------------------------------------

  async lookUp(users: readonly string[]): Promise<(Standing | undefined)[]> {
    const found = await Promise.all(users.map((user) => this.#read(user)))
    const readMs = performance.now()
    // Redis may have lost everything since the last beat, and a node that has just joined may have claimed already.
    const isSure = (user: string, at: number): boolean =>
      this.#own.devicesOf(user).length > 0 || found[at]?.held.some(({ name }) => this.#nodes.lives(name)) === true
    if (this.#nodes.isKnown && !users.every(isSure)) {
      await this.#beating
      await this.#beat()
    }
    return users.map((user, at) => this.#standingOf(user, found[at], readMs))
  }

  async #read(user: string): Promise<UserClaims | undefined> {
    if (this.#redis.status !== 'ready' || !this.#nodes.isKnown) return undefined
    try {
      return await this.#claims.of(user)
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'the registry of devices does not answer')
      return undefined
    }
  }

  #standingOf(user: string, found: UserClaims | undefined, readMs: number): Standing | undefined {
    const here = this.#own.devicesOf(user)
    const elsewhere = new Set<string>()
    let goneTs = found?.goneTs
    for (const each of found?.held ?? []) {
      // What this node has it knows better.
      if (this.#nodes.isOwn(each.name) || here.includes(each.device)) continue
      if (this.#nodes.lives(each.name)) elsewhere.add(each.device)
      else goneTs = Math.max(goneTs ?? 0, this.#died(user, each) ?? 0) || undefined
    }
    if (here.length + elsewhere.size === 0 && (found === undefined || !this.#nodes.isWhole(readMs))) return undefined
    return { here, elsewhere: [...elsewhere], ...(goneTs !== undefined && { goneTs }) }
  }

  /** When the node of a claim was last heard; one that nobody remembers leaves nothing behind. */
  #died(user: string, held: Held): number | undefined {
    const ts = this.#nodes.lastBeatTs(held.name)
    if (ts === undefined && this.#nodes.isWhole()) this.#claims.drop(user, held).catch(ignore)
    return ts
  }

  watch(watcher: DeviceWatcher): void {
    this.#watchers.push(watcher)
  }

  #changed(users: readonly string[] | 'all'): void {
    for (const watcher of this.#watchers) watcher(users)
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.#own.close()
    this.#redis.disconnect()
  }
}

const ignore = (): void => undefined
