/**
 * What a plugin is and what it may use. A plugin is a factory that returns a plain object of
 *  - gates (present tense): may refuse; the first refusal wins,
 *  - owners: routes and subscriptions of topics, methods of RPC and routes of HTTP, each with exactly one owner, checked at start,
 *  - watchers (past tense): are told, cannot refuse; what they throw is logged.
 * Plugins never import each other, nor aedes.
 */
import type { Registry } from 'prom-client'
import type { Static, TSchema } from 'typebox'
import type { Avatars } from './avatars.js'
import type { Bus } from './bus.js'
import type { Config } from './config.js'
import type { Delivered } from './delivered.js'
import type { DeviceRegistry } from './device-registry.js'
import type { Refusal } from './errors.js'
import type { Forget } from './forget.js'
import type { HttpRoute } from './http-route.js'
import type { Hub } from './hub.js'
import type { Lists } from './lists.js'
import type { LogWriter } from './log-writer.js'
import type { Logger } from './logger.js'
import type { Session } from './session.js'
import type { Signals } from './signals.js'
import type { LogEntry, Store } from './store/store.js'
import type { Address, ConversationId, RoutePattern, SubscriptionPattern } from './topics.js'

/** Who speaks: the verified user of a token. */
export interface Identity {
  user: string
  /** ms since 1970 at which the identity ends; undefined: never. */
  expiresTs?: number
  /** s since 1970 at which the token was issued; undefined if it does not say. */
  issuedAt?: number
  /** The token's scope is `admin`: may call /v1/admin and nothing is published in its name. */
  admin: boolean
  /** Whether the user was there when he was looked up; undefined: nobody has looked. */
  isKnown?: boolean
}

/** One connected client, as plugins see it. `user` is '' for an anonymous client. */
export interface Caller {
  readonly user: string
  /** '' for a call by HTTP. */
  readonly device: string
}

/** Before CONNECT. */
export const nobody: Caller = { user: '', device: '' }

export interface Publish {
  topic: string
  payload: Buffer
  qos: 0 | 1 | 2
  retain: boolean
  dup: boolean
  packetId: number
}

/** A publish on an owned route. `id` is what stands for `{peer}`, `{group}` or `{method}`. */
export interface RoutedPublish extends Publish {
  id: string
  caller: Caller
  /** Of the sender's connect: a later one of the same device has a higher one. */
  epoch: number
  /** Answers with an ack on u/{me}/ack and, for QoS > 0, lets the protocol acknowledge. Call once, with the result. */
  done(outcome: PublishOutcome): void
  /** Sends a payload to this session only; nothing when it is gone. */
  reply(topic: string, payload: string): void
}

export type PublishOutcome =
  | { kind: 'stored'; id: string; conv: ConversationId; seq: number; ts: number; dup: boolean }
  | { kind: 'done' }
  /** Refused for good; `id` is the message id if it could be read. */
  | { kind: 'refused'; id: string | undefined; error: Refusal }
  /** Not acknowledged at all: the connection is closed so that the client retries. */
  | { kind: 'unavailable'; why: string }

/** Handles one publish; must call `publish.done` once, now or later. Must not throw. */
export type RouteHandler = (publish: RoutedPublish) => void

/** Sends on a topic to the sessions that subscribed to it, beside Aedes. Its answer is the code of the SUBACK. */
export interface SubscriptionOwner {
  /**
   * May be called for what is subscribed to already [MQTT-3.8.4-3]. undefined: refused, as when it rejects; otherwise what is to be called
   * when the SUBACK has been written. The session may have ended before it resolves.
   */
  subscribe(session: Session, id: string): Promise<(() => void) | undefined>
  /** By UNSUBSCRIBE, or because the connection has ended. Also for what was not granted. */
  unsubscribe(session: Session, id: string): void
}

export interface Method<S extends TSchema = TSchema> {
  /** One schema for MQTT, HTTP and the docs; unknown fields are refused. */
  params: S
  /**
   * What it answers, for the OpenAPI document alone: it is not checked at run time. Give it as the third argument of `method`;
   * without it the document says `object`.
   */
  result?: TSchema | undefined
  /** Throws a Refusal for what the caller did wrong. */
  handle(caller: Caller, params: Static<S>): Promise<object>
}

/** Keeps the type of `params` in `handle`. `result` describes the answer in the OpenAPI document. */
export const method = <S extends TSchema>(params: S, handle: Method<S>['handle'], result?: TSchema): Method =>
  ({ params, handle, result }) as unknown as Method

/** A message that is about to go into the log. */
export interface MessageDraft {
  from: string
  conv: ConversationId
  id: string
  type: string
  body: unknown
}

export type PrepareMessage = (draft: MessageDraft) => Promise<Refusal | undefined>

export interface Plugin {
  name: string
  /** Called once, before anybody can connect. */
  start?(): Promise<void>
  /** Called once, when nobody is connected any more and the store is still open. */
  close?(): Promise<void>
  // gates
  /** Verifies a token. undefined: not mine. A Refusal: refused. Called once per connect and HTTP request. */
  authenticate?(token: string): Promise<Identity | Refusal | undefined>
  /** Every publish of a client, before its route is called. Synchronous: it is on the hot path. */
  authorizePublish?(caller: Caller, publish: Publish): Refusal | undefined
  /** Every call by HTTP. One by MQTT is a publish. */
  authorizeCall?(caller: Caller): Refusal | undefined
  /**
   * May `from` write to `to`? Asked when their conversation is first used, again after `log.conversations.changed` and from
   * time to time; never for each message.
   */
  authorizeDirect?(from: string, to: string): Promise<Refusal | undefined>
  /**
   * By type of message: may it be sent, and what must be durable before it is? Such messages wait for it, and behind them what the same
   * connection sends; others do not. A resend is asked for again.
   */
  prepareMessage?: Record<string, PrepareMessage>
  /** May `by` make this the picture of `u/{user}` or `g/{group}`, and what must be durable before he does? '' takes the picture away. */
  prepareAvatar?(by: string, of: Address, url: string): Promise<Refusal | undefined>
  /** Of the owner of profiles: the picture of a user as it is now. */
  avatarOf?(user: string): Promise<string | undefined>
  /** May this client publish to / receive from an application topic? true, false, or undefined: no opinion (default: no). */
  authorizeOpenPublish?(caller: Caller, topic: string): boolean | undefined
  authorizeOpenSubscribe?(caller: Caller, filter: string): boolean | undefined
  /** Checked at every forward of an application topic; synchronous. */
  authorizeOpenForward?(caller: Caller, topic: string): boolean | undefined
  /** Does the user not want to be disturbed? One plugin that says so is enough. */
  isBusy?(user: string): Promise<boolean>
  // owners
  routes?: Partial<Record<RoutePattern, RouteHandler>>
  subscriptions?: Partial<Record<SubscriptionPattern, SubscriptionOwner>>
  methods?: Record<string, Method>
  http?: readonly HttpRoute[]
  // what is kept of users, in conversations apart
  /** Removes all that the plugin keeps of a user who is erased. Called again after a failure, so what is gone already must not be one. */
  eraseUser?(user: string): Promise<void>
  /** The same, for the user to have: a line each, with the `kind` of thing that it is. */
  exportUser?(user: string): AsyncIterable<{ kind: string; [field: string]: unknown }>
  /**
   * The content of these entries is about to go for good: what the plugin has to know of it is durable when this resolves. Called again after a
   * failure; rejects with StoreUnavailable when it cannot be kept now.
   */
  beforeErase?(conv: ConversationId, entries: readonly LogEntry[]): Promise<void>
  // watchers
  onMessageStored?(conv: ConversationId, entry: LogEntry): void
  /** A device of the user has acknowledged the conversation up to seq, further than any before; told within 200 ms. */
  onDelivered?(user: string, conv: ConversationId, seq: number): void
  /** The user's read position moved forwards and is durable. */
  onRead?(user: string, conv: ConversationId, seq: number): void
  /** These users are no members of the group any more. Told on the node that wrote it. */
  onMembersLeft?(conv: ConversationId, users: readonly string[]): void
  /** May one of them write to the other? The answer may be another one now. Told on every node, as the bus reaches it. */
  onDirectChanged?(user: string, peer: string): void
  /** What `isBusy` says of the user may be another one now. Told on the node where that came to be. */
  onBusyChanged?(user: string): void
  onConnected?(caller: Caller): void
  onDisconnected?(caller: Caller): void
}

/** What a plugin may use. `log.submit` is how anything gets into a conversation. */
export interface PluginServer {
  readonly config: Config
  readonly logger: Logger
  readonly store: Store
  readonly log: LogWriter
  readonly hub: Hub
  readonly bus: Bus
  readonly signals: Signals
  readonly delivered: Delivered
  readonly lists: Lists
  readonly avatars: Avatars
  /** Of Prometheus, for metrics of the plugin's own. */
  readonly registry: Registry
  /** Which devices are connected, on whatever node. */
  readonly devices: DeviceRegistry
  /** Ends the session of a device, on whatever node, and forgets what is kept for it. */
  readonly forget: Forget
  /**
   * For the owner of messages: asks the plugins that prepare messages of this type; undefined: there are none. It rejects with
   * StoreUnavailable when that cannot be known now.
   */
  preparerOf(type: string): PrepareMessage | undefined
  /** Called by the owner of read positions: tells all plugins. */
  readMoved(user: string, conv: ConversationId, seq: number): void
  /** Called by the owner of what decides it, on every node: who may write to whom is judged anew, and all plugins are told. */
  directChanged(user: string, peer: string): void
  /** Called by a plugin that has `isBusy`: tells all plugins. */
  busyChanged(user: string): void
  /** Asks the plugins. Rejects with StoreUnavailable when that cannot be known now. */
  isBusy(user: string): Promise<boolean>
}

export type PluginFactory = (server: PluginServer) => Plugin
