/**
 * What the page knows of one user's conversations: messages by (conversation, seq), each once, and how far they are known
 * without a gap. Knows no network and no DOM.
 */
import { type Address, type ConversationSummary, idOf, isGroup, type Message } from './protocol.js'

/** A message of mine that has no seq yet. */
export interface Pending {
  id: string
  conv: Address
  /** A text, or the name of a file. */
  body: string
  /** Of a file, which has been uploaded. */
  message?: { type: string; body: object }
  state: 'sending' | 'failed'
  /** Why it failed, in the server's words. */
  error?: string
}

export class Conversation {
  readonly messages = new Map<number, Message>()
  /** All that I may see from `loadedFrom` up to here is in `messages`. */
  cursor = 0
  loadedFrom = 1
  /** There is nothing before `loadedFrom`. */
  isComplete = false
  /** False until the server has said anything of it: then `cursor` and `loadedFrom` mean nothing yet. */
  isKnown = false
  readUpTo = 0
  peerDelivered = 0
  peerRead = 0
  /** False once I have left the group, was removed, or it was dissolved. */
  isMember = true
  name: string | undefined
  #top = 0

  constructor(readonly conv: Address) {}

  get title(): string {
    return this.name ?? idOf(this.conv)
  }

  get head(): number {
    return Math.max(this.cursor, this.#top)
  }

  get hasGap(): boolean {
    return this.#top > this.cursor
  }

  get last(): Message | undefined {
    return this.messages.get(this.#top)
  }

  get unread(): number {
    return Math.max(0, this.head - this.readUpTo)
  }

  /** In order of seq. */
  get sorted(): Message[] {
    return [...this.messages.values()].sort((a, b) => a.seq - b.seq)
  }

  /** False when it was known, or lies before what is loaded. */
  add(message: Message, me: string): boolean {
    const { seq } = message
    if (!this.isKnown) {
      this.begin(seq - 1)
      // What was before a first live message is not unread: the server would have listed it.
      this.readUpTo = seq - 1
    }
    if (this.messages.has(seq) || seq < this.loadedFrom) return false
    this.messages.set(seq, message)
    this.#top = Math.max(this.#top, seq)
    this.settle(this.cursor)
    if (message.from === me || joins(message, me)) this.readUpTo = Math.max(this.readUpTo, seq)
    if (message.type === 'system') this.#applySystem(message, me)
    return true
  }

  /** The head of the conversation when the server was asked, before a page of history up to it is prepended. */
  begin(head: number): void {
    if (!this.isKnown) {
      this.isKnown = true
      this.cursor = head
      this.loadedFrom = head + 1
      this.isComplete = head === 0
    } else if (head < this.loadedFrom - 1) this.cursor = head
  }

  /** The server has nothing more for me up to `seq`. */
  settle(seq: number): void {
    this.cursor = Math.max(this.cursor, seq)
    while (this.messages.has(this.cursor + 1)) this.cursor++
  }

  /** A page of history that ends right before `loadedFrom`. */
  prepend(messages: readonly Message[]): void {
    for (const message of messages) {
      if (this.messages.has(message.seq)) continue
      this.messages.set(message.seq, message)
      this.#top = Math.max(this.#top, message.seq)
    }
    const first = messages[0]
    if (first !== undefined) this.loadedFrom = Math.min(this.loadedFrom, first.seq)
    this.isComplete = first === undefined || first.seq === 1
    this.settle(this.cursor)
  }

  /** Forgets what is old, or everything when `keep` is 0; it can be loaded again. */
  trim(keep: number): void {
    if (keep > 0 && this.hasGap) return
    const surplus = this.sorted.slice(0, Math.max(0, this.messages.size - keep))
    if (surplus.length === 0) return
    for (const { seq } of surplus) this.messages.delete(seq)
    this.loadedFrom = (surplus.at(-1) as Message).seq + 1
    this.isComplete = false
    if (keep === 0) this.#top = 0
  }

  /** Starts over from what `conversations` says. */
  reset({ head, last }: ConversationSummary): void {
    this.trim(0)
    this.isKnown = false
    this.begin(head)
    if (last !== undefined) this.prepend([last])
  }

  /** What the server has no more, the page does not keep either. */
  #erase(users: readonly string[]): void {
    for (const [seq, message] of this.messages) {
      if (users.includes(message.from) && !lasting.has(message.type))
        this.messages.set(seq, { ...message, type: 'erased', body: undefined })
    }
  }

  #applySystem({ from, body }: Message, me: string): void {
    const { event, name, users } = body as { event?: string; name?: string; users?: string[] }
    if (event === 'erased' && Array.isArray(users)) this.#erase(users)
    if ((event === 'created' || event === 'updated') && typeof name === 'string') this.name = name
    if (event === 'dissolved' || ((event === 'removed' || event === 'left') && users?.includes(me))) this.isMember = false
    if (event === 'created' ? from === me || users?.includes(me) : event === 'added' && users?.includes(me)) this.isMember = true
  }
}

/** Types that have no content of their own. */
const lasting: ReadonlySet<string> = new Set(['system', 'recall'])

function joins({ type, body }: Message, me: string): boolean {
  const { event, users } = (body ?? {}) as { event?: string; users?: string[] }
  return type === 'system' && (event === 'created' || event === 'added') && Array.isArray(users) && users.includes(me)
}

export class Store {
  readonly conversations = new Map<Address, Conversation>()
  readonly pending = new Map<string, Pending>()

  constructor(
    readonly me: string,
    readonly changed: () => void,
  ) {}

  ensure(conv: Address): Conversation {
    let found = this.conversations.get(conv)
    if (found === undefined) {
      found = new Conversation(conv)
      this.conversations.set(conv, found)
    }
    return found
  }

  /** False when it was known. */
  add(conv: Address, message: Message): boolean {
    const isNew = this.ensure(conv).add(message, this.me)
    if (isNew) this.changed()
    return isNew
  }

  pendingOf(conv: Address): Pending[] {
    return [...this.pending.values()].filter((pending) => pending.conv === conv)
  }

  /** Newest first; a conversation without messages stands on top, as it was just begun. */
  get newestFirst(): Conversation[] {
    const tsOf = ({ last, conv }: Conversation): number =>
      this.pendingOf(conv).length > 0 ? Number.MAX_VALUE : (last?.ts ?? Number.MAX_VALUE)
    return [...this.conversations.values()].sort((a, b) => tsOf(b) - tsOf(a))
  }

  get unread(): number {
    let sum = 0
    for (const { unread } of this.conversations.values()) sum += unread
    return sum
  }

  /** Groups whose name is not known yet. */
  get nameless(): Conversation[] {
    return [...this.conversations.values()].filter(({ conv, name, isMember }) => isGroup(conv) && isMember && name === undefined)
  }
}
