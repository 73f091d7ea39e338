/**
 * The client side of the protocol: after each connect it reads the list of conversations, closes gaps with `sync`, and repeats
 * what was not acknowledged; between connects it applies what arrives live. The view calls it and reads its store.
 */
import { CallError, Connection, type LinkState } from './connection.js'
import type { Credentials } from './credentials.js'
import { createGroupCalls, type GroupCalls } from './group-calls.js'
import { MediaLinks, upload, uploadVoice } from './media.js'
import { createOutbox, type Outbox } from './outbox.js'
import { Presences } from './presence.js'
import {
  type Ack,
  type Address,
  type ConversationSummary,
  type ConversationsPage,
  conversationOf,
  conversationOfTyping,
  type Event,
  groupTypingFilter,
  type HistoryPage,
  idOf,
  type Message,
  messageTopic,
  type PresenceSignal,
  presenceTopic,
  randomName,
  readTopic,
  type SyncPage,
  type TypingSignal,
  typingTopic,
  userOfPresence,
} from './protocol.js'
import type { VoiceRecord } from './recorder.js'
import { type Conversation, type Pending, Store } from './store.js'
import { OwnTyping, Writers } from './typing.js'

export interface ChatListener {
  changed(): void
  linkChanged(state: LinkState): void
  /** A message of somebody else, as it comes in. */
  arrived(conv: Address, message: Message): void
}

const listPage = 200
const listPagesMax = 5
const historyPage = 50
const syncRoundsMax = 10
/** The cursors of a `sync` must fit into one publish. */
const cursorsMax = 500
const gapPatienceMs = 300
const refreshPauseMs = 3_000
const readPauseMs = 250

const contentOf = ({ message, body }: Pending): { type: string; body: unknown } => message ?? { type: 'text', body }

export class ChatClient {
  readonly me: string
  readonly store: Store
  readonly groups: GroupCalls
  readonly media: MediaLinks
  readonly writers: Writers
  readonly presences: Presences
  readonly typing: OwnTyping
  readonly #connection: Connection
  readonly #listener: ChatListener
  readonly #outbox: Outbox
  #gapTimer: number | undefined
  #refreshTimer: number | undefined
  #reads = new Map<Address, number>()
  #readTimer: number | undefined
  #isRefreshing = false
  isListed = false

  constructor(credentials: Credentials, device: string, url: string, listener: ChatListener) {
    this.me = credentials.user
    this.#listener = listener
    this.store = new Store(this.me, listener.changed)
    this.#outbox = createOutbox(this.me, this.store.pending)
    for (const { conv } of this.store.pending.values()) this.store.ensure(conv)
    this.#connection = new Connection(credentials, device, url, {
      linkChanged: (state) => this.#linkChanged(state),
      received: (kind, payload, topic) => this.#received(kind, payload, topic),
    })
    this.writers = new Writers(listener.changed)
    this.presences = new Presences((user) => this.#connection.subscribe(presenceTopic(user)), listener.changed)
    this.typing = new OwnTyping((conv, on) => {
      // Nobody hears it where nothing was said yet.
      if (this.store.ensure(conv).head > 0) this.#connection.signal(typingTopic(conv), { on })
    })
    this.groups = createGroupCalls(this.#connection, this.store)
    this.media = new MediaLinks((method, params) => this.#connection.call(method, params))
  }

  open(): void {
    this.#connection.open()
  }

  close(): void {
    for (const timer of [this.#gapTimer, this.#refreshTimer, this.#readTimer]) clearTimeout(timer)
    this.#connection.close()
  }

  retryNow(): void {
    this.#connection.retryNow()
  }

  get link(): LinkState {
    return this.#connection.state
  }

  // --- sending ----------------------------------------------------------------------------------------------------

  send(conv: Address, body: string): void {
    this.store.ensure(conv)
    this.#transmit({ id: `w-${randomName(20)}`, conv, body, state: 'sending' })
  }

  /** Uploads a file, then sends it. Rejects with a CallError when it cannot be uploaded. */
  async sendFile(conv: Address, file: File): Promise<void> {
    const message = await upload((method, params) => this.#connection.call(method, params), file)
    this.store.ensure(conv)
    this.#transmit({ id: `w-${randomName(20)}`, conv, body: file.name, message, state: 'sending' })
  }

  /** The same, of what was recorded. */
  async sendVoice(conv: Address, record: VoiceRecord): Promise<void> {
    const message = await uploadVoice((method, params) => this.#connection.call(method, params), record)
    this.store.ensure(conv)
    this.#transmit({ id: `w-${randomName(20)}`, conv, body: 'Voice message', message, state: 'sending' })
  }

  /** Under the id that it had, so that it is stored once even if the failure was only that of its acknowledgement. */
  retry({ error: _, ...pending }: Pending): void {
    this.#transmit({ ...pending, state: 'sending' })
  }

  discard(pending: Pending): void {
    this.store.pending.delete(pending.id)
    this.#pendingChanged()
  }

  #transmit(pending: Pending): void {
    this.store.pending.set(pending.id, pending)
    this.#pendingChanged()
    this.#connection.publish(messageTopic(pending.conv), { id: pending.id, ...contentOf(pending) })
  }

  #pendingChanged(): void {
    this.#outbox.keep()
    this.store.changed()
  }

  /** Tells the server, a moment later, that all of the conversation has been read. */
  markRead(conversation: Conversation): void {
    const { conv, head, unread } = conversation
    if (unread === 0 || conversation.hasGap) return
    conversation.readUpTo = head
    this.#reads.set(conv, head)
    this.store.changed()
    this.#readTimer ??= setTimeout(() => this.#flushReads(), readPauseMs)
  }

  #flushReads(): void {
    this.#readTimer = undefined
    if (!this.#connection.isOnline) return
    for (const [conv, seq] of this.#reads) this.#connection.publish(readTopic(conv), { seq })
    this.#reads.clear()
  }

  // --- history ----------------------------------------------------------------------------------------------------

  /** The page before what is loaded. Rejects with a CallError. */
  async loadOlder(conversation: Conversation): Promise<void> {
    const { conv, isKnown, loadedFrom, isComplete } = conversation
    if (isComplete) return
    const before = isKnown ? { before: loadedFrom } : {}
    const { messages, head } = await this.#connection.call<HistoryPage>('history', { conv, ...before, limit: historyPage })
    if (!isKnown) conversation.begin(head)
    // The window may have been trimmed or reset while the page was under way.
    if (!isKnown || conversation.loadedFrom === loadedFrom) conversation.prepend(messages)
    this.store.changed()
  }

  // --- what arrives -----------------------------------------------------------------------------------------------

  #linkChanged(state: LinkState): void {
    this.#listener.linkChanged(state)
    this.writers.clear()
    this.presences.clear()
    if (state.kind !== 'online') return
    this.#connection.subscribe(groupTypingFilter)
    for (const pending of this.store.pending.values()) if (pending.state === 'sending') this.#transmit(pending)
    this.#flushReads()
    void this.#refresh()
  }

  #received(kind: 'ack' | 'event' | 'message' | 'typing' | 'presence', payload: unknown, topic: string): void {
    if (kind === 'ack') this.#acknowledged(payload as Ack)
    else if (kind === 'presence') this.presences.heard(userOfPresence(topic), payload as PresenceSignal)
    else if (kind === 'typing') this.writers.heard(conversationOfTyping(topic, (payload as TypingSignal).from), payload as TypingSignal)
    else if (kind === 'event') this.#applyEvent(payload as Event)
    else this.#applyLive(payload as Message)
  }

  #applyLive(message: Message): void {
    const conv = conversationOf(message, this.me)
    if (!this.store.add(conv, message)) return
    this.presences.wants(conv)
    this.writers.heard(conv, { from: message.from, on: false })
    if (message.from !== this.me) this.#listener.arrived(conv, message)
    this.#watchGap(conv)
    void this.groups.loadNames()
  }

  #acknowledged({ id, conv, seq, ts, error }: Ack): void {
    const pending = id === undefined ? undefined : this.store.pending.get(id)
    if (pending === undefined) return
    if (error !== undefined || conv === undefined || seq === undefined || ts === undefined) {
      this.store.pending.set(pending.id, { ...pending, state: 'failed', error: error?.message ?? 'The server did not say why.' })
    } else {
      this.store.pending.delete(pending.id)
      this.store.add(conv, { seq, ts, from: this.me, id: pending.id, ...contentOf(pending) })
      this.presences.wants(conv)
      this.#watchGap(conv)
    }
    this.#pendingChanged()
  }

  #applyEvent(event: Event): void {
    const conversation = 'conv' in event ? this.store.conversations.get(event.conv) : undefined
    if (conversation === undefined) return
    if (event.type === 'read') conversation.readUpTo = Math.max(conversation.readUpTo, event.seq)
    else if (event.type === 'receipt' && event.user === idOf(conversation.conv)) {
      conversation.peerRead = Math.max(conversation.peerRead, event.read ?? 0)
      conversation.peerDelivered = Math.max(conversation.peerDelivered, event.delivered ?? 0)
    }
    this.store.changed()
  }

  /** A missing seq usually is on its way; when it does not come, it is fetched. */
  #watchGap(conv: Address): void {
    if (!this.store.ensure(conv).hasGap) return
    this.#gapTimer ??= setTimeout(() => {
      this.#gapTimer = undefined
      if ([...this.store.conversations.values()].some(({ hasGap }) => hasGap)) void this.#refresh()
    }, gapPatienceMs)
  }

  // --- after a connect --------------------------------------------------------------------------------------------

  async #refresh(): Promise<void> {
    clearTimeout(this.#refreshTimer)
    if (this.#isRefreshing) return
    this.#isRefreshing = true
    try {
      const summaries = await this.#list()
      for (const summary of summaries) this.#applySummary(summary)
      const behind = await this.#sync()
      if (behind) for (const summary of await this.#list()) this.store.ensure(summary.conv).reset(summary)
      for (const { conv, head } of this.store.newestFirst) if (head > 0) this.presences.wants(conv)
      this.isListed = true
      this.store.changed()
      void this.groups.loadNames()
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      // After a lost connection the next one refreshes; whatever else it was, it may pass.
      this.#refreshTimer = setTimeout(() => this.#connection.isOnline && void this.#refresh(), refreshPauseMs)
    } finally {
      this.#isRefreshing = false
    }
  }

  async #list(): Promise<ConversationSummary[]> {
    const found: ConversationSummary[] = []
    let cursor: { cursor?: string } = {}
    for (let page = 0; page < listPagesMax; page++) {
      const { conversations, next } = await this.#connection.call<ConversationsPage>('conversations', {
        limit: listPage,
        fold: false,
        ...cursor,
      })
      found.push(...conversations)
      if (next === undefined) break
      cursor = { cursor: next }
    }
    return found
  }

  #applySummary(summary: ConversationSummary): void {
    const conversation = this.store.ensure(summary.conv)
    if (!conversation.isKnown) conversation.reset(summary)
    conversation.readUpTo = Math.max(conversation.readUpTo, summary.head - summary.unread)
    conversation.peerRead = Math.max(conversation.peerRead, summary.read)
    conversation.peerDelivered = Math.max(conversation.peerDelivered, summary.delivered)
  }

  /** Everything since the cursors. True when that is too much: then what is loaded must be thrown away. */
  async #sync(): Promise<boolean> {
    for (let round = 0; round < syncRoundsMax; round++) {
      const known = [...this.store.conversations.values()].filter(({ isKnown }) => isKnown)
      if (known.length > cursorsMax) return true
      const cursors = Object.fromEntries(known.map(({ conv, cursor }) => [conv, cursor]))
      const { messages, heads, more } = await this.#connection.call<SyncPage>('sync', { cursors })
      for (const { conv, ...message } of messages) {
        const conversation = this.store.ensure(conv)
        if (!conversation.isKnown) conversation.begin(message.seq - 1)
        conversation.add(message, this.me)
        conversation.settle(message.seq)
      }
      if (more) continue
      for (const [conv, head] of Object.entries(heads)) if (head > 0) this.store.ensure(conv).settle(head)
      return false
    }
    return true
  }
}
