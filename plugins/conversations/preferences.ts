/**
 * What a user has set for a conversation, for himself alone: pinned to the top of his list, muted until some time. `preferences/{user}/{conv}`
 * in the store, with a row only for those of which anything is set.
 */
import { type Static, Type } from 'typebox'
import { refuse } from '../../broker/errors.js'
import { InTurn } from '../../broker/in-turn.js'
import { addressSchema } from '../../broker/payloads.js'
import { type Caller, type Method, method } from '../../broker/plugin.js'
import type { Signals } from '../../broker/signals.js'
import type { Store } from '../../broker/store/store.js'
import { type ConversationId, conversationOf } from '../../broker/topics.js'

/** Pinned conversations of a user. */
const pinnedMax = 100

const untilSchema = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

const paramsSchema = Type.Object(
  { conv: addressSchema, pinned: Type.Optional(Type.Boolean()), muted_until: Type.Optional(untilSchema) },
  { additionalProperties: false },
)

const resultSchema = Type.Object({ conv: addressSchema, pinned: Type.Boolean(), muted_until: untilSchema })

export interface Preference {
  pinned?: boolean
  /** ms since 1970; lies in the future. */
  muted_until?: number
}

const prefixOf = (user: string): string => `preferences/${user}/`

export class Preferences {
  readonly #store: Store
  readonly #signals: Signals
  readonly #turns = new InTurn()

  constructor(store: Store, signals: Signals) {
    this.#store = store
    this.#signals = signals
  }

  /** Of all conversations for which anything is set. */
  async of(user: string): Promise<Map<ConversationId, Preference>> {
    const found = new Map<ConversationId, Preference>()
    const prefix = prefixOf(user)
    for await (const { key, value } of this.#store.records.entries(prefix)) {
      const preference = inForce(JSON.parse(value.toString()) as Preference)
      if (Object.keys(preference).length > 0) found.set(key.slice(prefix.length), preference)
    }
    return found
  }

  async forget(user: string): Promise<void> {
    for await (const { key } of this.#store.records.entries(prefixOf(user))) await this.#store.records.remove(key)
  }

  /** What is set afterwards. Other sessions of the user are told of what has changed. */
  update({ user, device }: Caller, { conv: address, ...changes }: Static<typeof paramsSchema>): Promise<Static<typeof resultSchema>> {
    return this.#turns.run([user], async () => {
      const conv = conversationOf(address, user) as ConversationId
      if ((await this.#store.directory.conversation(user, conv)) === undefined)
        throw refuse('not_found', `you have no conversation ${address}`)
      const all = await this.of(user)
      const before = stated(all.get(conv))
      const after = stated(inForce({ ...before, ...changes } as Stated))
      if (before.pinned === after.pinned && before.muted_until === after.muted_until) return { conv: address, ...after }
      if (after.pinned && !before.pinned && [...all.values()].filter(({ pinned }) => pinned).length >= pinnedMax)
        throw refuse('forbidden', `you have ${pinnedMax} pinned conversations, which is the most`)
      await this.#put(prefixOf(user) + conv, inForce(after))
      this.#signals.sendEvent(user, { type: 'conversation', conv: address, ...after }, { device })
      return { conv: address, ...after }
    })
  }

  #put(key: string, preference: Preference): Promise<void> {
    const { records } = this.#store
    return Object.keys(preference).length === 0 ? records.remove(key) : records.put(key, Buffer.from(JSON.stringify(preference)))
  }
}

type Stated = Pick<Static<typeof resultSchema>, 'pinned' | 'muted_until'>

const stated = ({ pinned = false, muted_until = 0 }: Preference = {}): Stated => ({ pinned, muted_until })

/** Without what is not set, or over. */
function inForce({ pinned, muted_until = 0 }: Partial<Stated>): Preference {
  return { ...(pinned === true && { pinned }), ...(muted_until > Date.now() && { muted_until }) }
}

export const updateMethod = (preferences: Preferences): Method =>
  method(paramsSchema, (caller, params) => preferences.update(caller, params), resultSchema)
