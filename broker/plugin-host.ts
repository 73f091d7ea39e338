/**
 * Holds the plugins in their order and is the one way to ask them. Built at start: a route or method without exactly
 * one owner is reported then, all faults together.
 */
import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { Value } from 'typebox/value'
import { Refusal, refuse } from './errors.js'
import { firstFault } from './first-fault.js'
import type { HttpRoute } from './http-route.js'
import { isErased, isKnown } from './known-user.js'
import type { Logger } from './logger.js'
import type { Caller, Identity, Method, Plugin, PrepareMessage, Publish, RoutedPublish, RouteHandler, SubscriptionOwner } from './plugin.js'
import { type Directory, type Effect, type LogEntry, StoreUnavailable } from './store/store.js'
import type { Address, ConversationId, RoutePattern, SubscriptionPattern } from './topics.js'

/** Of the server itself. */
const ownPaths = /^(?!\/v1\/)|^\/v1\/(rpc|admin|openapi\.json)/

interface OwnedMethod {
  method: Method
  validator: Validator
}

type Watcher = Extract<keyof Plugin, `on${string}`>

export class PluginHost {
  readonly #logger: Logger
  readonly #directory: Directory
  readonly #routes = new Map<RoutePattern, RouteHandler>()
  readonly #subscriptions = new Map<SubscriptionPattern, SubscriptionOwner>()
  readonly #methods = new Map<string, OwnedMethod>()
  readonly #publishGates: NonNullable<Plugin['authorizePublish']>[] = []
  readonly #preparers = new Map<string, PrepareMessage>()
  readonly #httpRoutes: HttpRoute[] = []
  #plugins: readonly Plugin[] = []
  readonly #watchers = new Map<Watcher, readonly Plugin[]>()

  constructor(logger: Logger, directory: Directory) {
    this.#logger = logger
    this.#directory = directory
  }

  /** Takes the plugins; throws one Error that names every topic, method or HTTP route with two owners. */
  install(plugins: readonly Plugin[]): void {
    this.#plugins = plugins
    this.#watchers.clear()
    const faults: string[] = []
    const owners = new Map<string, string>()
    const claim = (what: string, plugin: Plugin): boolean => {
      const owner = owners.get(what)
      if (owner !== undefined) faults.push(`${what} is owned by ${owner} and by ${plugin.name}`)
      owners.set(what, plugin.name)
      return owner === undefined
    }
    for (const plugin of plugins) {
      for (const [pattern, handler] of Object.entries(plugin.routes ?? {})) {
        if (claim(`topic ${pattern}`, plugin)) this.#routes.set(pattern as RoutePattern, handler)
      }
      for (const [pattern, owner] of Object.entries(plugin.subscriptions ?? {})) {
        if (claim(`subscription ${pattern}`, plugin)) this.#subscriptions.set(pattern as SubscriptionPattern, owner)
      }
      for (const [name, method] of Object.entries(plugin.methods ?? {})) {
        if (claim(`method ${name}`, plugin)) this.#methods.set(name, { method, validator: Compile(method.params) })
      }
      for (const route of plugin.http ?? []) {
        if (ownPaths.test(route.path)) faults.push(`HTTP ${route.path} of ${plugin.name} is not below /v1/, or is the server's own`)
        else if (claim(`HTTP ${route.method} ${route.path}`, plugin)) this.#httpRoutes.push(route)
      }
      for (const [type, prepare] of Object.entries(plugin.prepareMessage ?? {})) {
        this.#preparers.set(type, this.#preparer(this.#preparers.get(type), prepare, type))
      }
      if (plugin.authorizePublish !== undefined) this.#publishGates.push(plugin.authorizePublish.bind(plugin))
    }
    if (faults.length > 0) throw new Error(`The plugins do not fit together:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`)
  }

  async start(): Promise<void> {
    for (const plugin of this.#plugins) await plugin.start?.()
  }

  /** One that fails does not keep the others from closing. */
  async close(): Promise<void> {
    for (const plugin of this.#plugins) {
      await plugin.close?.().catch((error) => this.#logger.error({ err: error, plugin: plugin.name }, 'a plugin did not close'))
    }
  }

  get httpRoutes(): readonly HttpRoute[] {
    return this.#httpRoutes
  }

  get methodNames(): string[] {
    return [...this.#methods.keys()]
  }

  get methods(): ReadonlyMap<string, Method> {
    return new Map([...this.#methods].map(([name, { method }]) => [name, method]))
  }

  // --- gates ------------------------------------------------------------------------------------------------------

  /** The first plugin that knows the token decides; fails closed. */
  async authenticate(token: string): Promise<Identity | Refusal> {
    for (const plugin of this.#plugins) {
      if (plugin.authenticate === undefined) continue
      const verdict = await plugin.authenticate(token)
      if (verdict !== undefined) return verdict
    }
    return refuse('forbidden', 'the token is not valid')
  }

  authorizePublish(caller: Caller, publish: Publish): Refusal | undefined {
    for (const gate of this.#publishGates) {
      const refusal = gate(caller, publish)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  authorizeCall(caller: Caller): Refusal | undefined {
    for (const plugin of this.#plugins) {
      const refusal = plugin.authorizeCall?.(caller)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  async authorizeDirect(from: string, to: string): Promise<Refusal | undefined> {
    const [known, erased] = await Promise.all([isKnown(this.#directory, to), isErased(this.#directory, from)])
    if (!known) return refuse('not_found', `there is no user ${to}`)
    if (erased) return refuse('forbidden', 'you were erased')
    for (const plugin of this.#plugins) {
      const refusal = await plugin.authorizeDirect?.(from, to)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  async prepareAvatar(by: string, of: Address, url: string): Promise<Refusal | undefined> {
    for (const plugin of this.#plugins) {
      const refusal = await plugin.prepareAvatar?.(by, of, url)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  async avatarOf(user: string): Promise<string | undefined> {
    return this.#plugins.find((plugin) => plugin.avatarOf !== undefined)?.avatarOf?.(user)
  }

  preparerOf(type: string): PrepareMessage | undefined {
    return this.#preparers.get(type)
  }

  authorizeOpenPublish(caller: Caller, topic: string): boolean {
    return this.#plugins.some((plugin) => plugin.authorizeOpenPublish?.(caller, topic) === true)
  }

  authorizeOpenSubscribe(caller: Caller, filter: string): boolean {
    return this.#plugins.some((plugin) => plugin.authorizeOpenSubscribe?.(caller, filter) === true)
  }

  authorizeOpenForward(caller: Caller, topic: string): boolean {
    return this.#plugins.some((plugin) => plugin.authorizeOpenForward?.(caller, topic) === true)
  }

  async isBusy(user: string): Promise<boolean> {
    for (const plugin of this.#plugins) if (await plugin.isBusy?.(user)) return true
    return false
  }

  async isMember(group: string, user: string): Promise<boolean> {
    return (await this.#directory.member(group, user))?.role !== undefined
  }

  // --- owners -----------------------------------------------------------------------------------------------------

  route(pattern: RoutePattern, publish: RoutedPublish): void {
    const handler = this.#routes.get(pattern)
    try {
      if (handler !== undefined) return handler(publish)
      publish.done({ kind: 'refused', id: undefined, error: refuse('not_found', `nothing answers on ${publish.topic}`) })
    } catch (error) {
      publish.done({ kind: 'refused', id: undefined, error: this.#internal(error, publish.topic) })
    }
  }

  subscriptionOwner(pattern: SubscriptionPattern): SubscriptionOwner | undefined {
    return this.#subscriptions.get(pattern)
  }

  /** Validates and calls a method; every fault comes back as a Refusal. */
  async call(name: string, caller: Caller, params: unknown): Promise<object | Refusal> {
    const owned = this.#methods.get(name)
    if (owned === undefined) return refuse('not_found', `there is no method ${name}`)
    const given = params ?? {}
    if (!owned.validator.Check(given)) return refuse('invalid', `params of ${name}: ${describeFault(owned.validator, given)}`)
    try {
      return await owned.method.handle(caller, given as never)
    } catch (error) {
      if (error instanceof Refusal) return error
      return (error as Error).name === 'StoreUnavailable'
        ? refuse('unavailable', 'the store cannot be reached')
        : this.#internal(error, name)
    }
  }

  /** Asks `first`, if there is one, and `then` unless it has refused. */
  #preparer(first: PrepareMessage | undefined, then: PrepareMessage, type: string): PrepareMessage {
    return async (draft) => {
      try {
        return (await first?.(draft)) ?? (await then(draft))
      } catch (error) {
        if (error instanceof StoreUnavailable) throw error
        return error instanceof Refusal ? error : this.#internal(error, `preparing a message of type ${type}`)
      }
    }
  }

  #internal(error: unknown, what: string): Refusal {
    this.#logger.error({ err: error, what }, 'a plugin failed')
    return refuse('internal', 'a fault of the server; it has been logged')
  }

  // --- what is kept of users --------------------------------------------------------------------------------------

  async eraseUser(user: string): Promise<void> {
    for (const plugin of this.#plugins) await plugin.eraseUser?.(user)
  }

  async beforeErase(conv: ConversationId, entries: readonly LogEntry[]): Promise<void> {
    for (const plugin of this.#plugins) await plugin.beforeErase?.(conv, entries)
  }

  async *exportUser(user: string): AsyncIterable<{ kind: string; [field: string]: unknown }> {
    for (const plugin of this.#plugins) if (plugin.exportUser !== undefined) yield* plugin.exportUser(user)
  }

  // --- watchers ---------------------------------------------------------------------------------------------------

  messageStored(conv: ConversationId, entry: LogEntry): void {
    this.#tell('onMessageStored', conv, entry)
  }

  /** Of an entry that was written here. */
  membersChanged(conv: ConversationId, effects: readonly Effect[]): void {
    const left = effects.flatMap((effect) => (effect.kind === 'member' && effect.record.role === undefined ? [effect.record.user] : []))
    if (left.length > 0) this.#tell('onMembersLeft', conv, left)
  }

  delivered(user: string, conv: ConversationId, seq: number): void {
    this.#tell('onDelivered', user, conv, seq)
  }

  readMoved(user: string, conv: ConversationId, seq: number): void {
    this.#tell('onRead', user, conv, seq)
  }

  directChanged(user: string, peer: string): void {
    this.#tell('onDirectChanged', user, peer)
  }

  busyChanged(user: string): void {
    this.#tell('onBusyChanged', user)
  }

  connected(caller: Caller): void {
    this.#tell('onConnected', caller)
  }

  disconnected(caller: Caller): void {
    this.#tell('onDisconnected', caller)
  }

  /** Those that have such a watcher: most have few, and some are told of every message. */
  #watching(name: Watcher): readonly Plugin[] {
    let watching = this.#watchers.get(name)
    if (watching === undefined) {
      watching = this.#plugins.filter((plugin) => plugin[name] !== undefined)
      this.#watchers.set(name, watching)
    }
    return watching
  }

  #tell<Name extends Watcher>(name: Name, ...told: Parameters<NonNullable<Plugin[Name]>>): void {
    for (const plugin of this.#watching(name)) {
      try {
        ;(plugin[name] as (...told: unknown[]) => void)(...told)
      } catch (error) {
        this.#failed(plugin, error)
      }
    }
  }

  #failed({ name }: Plugin, error: unknown): void {
    this.#logger.error({ err: error, plugin: name }, 'a watcher failed')
  }
}

/** The first thing that is wrong, in words: an unknown field, a missing one, or what a value must be. */
export function describeFault(validator: Validator, given: unknown): string {
  const { path, schema, value, unknown } = firstFault(validator.Type() as TSchema, given)
  const place = path.length === 0 ? '' : `${path.join('.')} `
  if (unknown.length > 0) return `${place}unknown field ${unknown.join(', ')}`
  const error = Value.Errors(schema, value).find(({ keyword }) => keyword !== 'boolean')
  if (error === undefined) return `${place}not valid`
  const below = error.instancePath === '' ? '' : `${error.instancePath.slice(1).replaceAll('/', '.')} `
  const where = place !== '' && below !== '' ? `${place.trimEnd()}.${below}` : `${place}${below}`
  const { allowedValues } = error.params as { allowedValues?: unknown[] }
  return `${where}${error.message}${allowedValues === undefined ? '' : ` (${allowedValues.join(', ')})`}`
}
