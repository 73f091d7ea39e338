/**
 * Removes what nobody refers to: uploads that were never sent, or whose messages were all recalled, erased or refused, and bytes whose upload a crash
 * has cut off. It looks only at objects that nobody was seen to refer to, slowly, and looks twice: after the first no message may refer to the
 * object any more, at the second, when those that were under way are done, it goes.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from '../../broker/logger.js'
import { useAsAvatar } from './avatar-objects.js'
import type { KeptUnsettled, MediaObject } from './media-records.js'
import type { MediaWorld } from './media-world.js'

const roundMs = 3_600_000
/** Between the two looks: longer than a message is under way to the log. */
const doomedMs = 2 * 3_600_000

export class Sweep {
  readonly #world: MediaWorld
  readonly #logger: Logger
  #timer: NodeJS.Timeout | undefined
  #round: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(world: MediaWorld, logger: Logger) {
    this.#world = world
    this.#logger = logger
  }

  /** The first round begins at once. */
  start(): void {
    if (this.#isClosed) return
    this.#round = this.#sweep(this.#world.now())
      .catch((error) => this.#logger.warn({ err: error }, 'media could not be swept; the next round will'))
      .then(() => {
        if (!this.#isClosed) this.#timer = setTimeout(() => this.start(), roundMs).unref()
      })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#round
    clearTimeout(this.#timer)
  }

  async #sweep(nowTs: number): Promise<void> {
    const { records, config } = this.#world
    for await (const unsettled of records.unsettled()) {
      if (this.#isClosed) return
      if (nowTs - unsettled.ts >= config.mediaUnsentMs) await this.#settle(unsettled, nowTs)
      await nextTurn()
    }
  }

  async #settle(unsettled: KeptUnsettled, nowTs: number): Promise<void> {
    const { records } = this.#world
    const object = await records.object(unsettled.id)
    if (object?.sha256 !== unsettled.sha256) return this.#remove(unsettled)
    const use = await this.#useOf(object, nowTs)
    if (use === 'sent') {
      const { doomedTs, ...kept } = object
      if (doomedTs !== undefined) await records.putObject(kept)
      await records.removeUnsettled(unsettled)
    } else if (use === 'unsent') {
      if (object.doomedTs === undefined) return records.putObject({ ...object, doomedTs: nowTs })
      if (nowTs - object.doomedTs < doomedMs) return
      await records.removeObject(object.id)
      await this.#remove(unsettled)
      this.#world.metrics.removed()
    }
  }

  async #remove(unsettled: KeptUnsettled): Promise<void> {
    await this.#world.objects?.remove(unsettled)
    await this.#world.records.removeUnsettled(unsettled)
  }

  /** `open`: a message may be under way. Removes refs of messages that are not there. */
  async #useOf(object: MediaObject, nowTs: number): Promise<'sent' | 'open' | 'unsent'> {
    const { records, access, config } = this.#world
    let use: 'open' | 'unsent' = 'unsent'
    for await (const ref of records.refs(object.id)) {
      if ((await access.seqOf(ref)) !== undefined) return 'sent'
      if (nowTs - ref.ts < config.mediaUnsentMs) use = 'open'
      else await records.removeRef(object.id, ref)
    }
    const asAvatar = await useAsAvatar(this.#world, object, nowTs)
    if (asAvatar === 'shown') return 'sent'
    return asAvatar === 'open' ? 'open' : use
  }
}
