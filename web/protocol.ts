/**
 * Topics and shapes of the protocol, as topics.md says, seen from a client. The only file of the page that spells a topic.
 * What arrives is data from elsewhere: readers of `body` check it before they use it.
 */

/** `u/{peer}` or `g/{group}`. */
export type Address = string

export interface Message {
  seq: number
  /** The server's clock, in ms. */
  ts: number
  from: string
  to?: string
  group?: string
  id: string
  type: string
  body: unknown
  re?: number
}

export interface ErrorBody {
  code: string
  message: string
}

export interface Ack {
  id?: string
  conv?: Address
  seq?: number
  ts?: number
  error?: ErrorBody
}

export interface RpcReply {
  id?: string
  result?: object
  error?: ErrorBody
}

export interface ConversationSummary {
  conv: Address
  head: number
  unread: number
  last?: Message
  /** How far the peer's devices and the peer have come. */
  delivered: number
  read: number
}

export interface ConversationsPage {
  conversations: ConversationSummary[]
  next?: string
}

export interface HistoryPage {
  messages: Message[]
  head: number
}

export interface SyncPage {
  messages: (Message & { conv: Address })[]
  heads: Record<Address, number>
  more: boolean
}

export interface GroupMember {
  user: string
  role: 'owner' | 'admin' | 'member'
}

/** Somebody is writing, or no longer. */
export interface TypingSignal {
  from: string
  on: boolean
}

export interface PresenceSignal {
  status: 'online' | 'offline'
  busy?: true
  /** In ms; not there when it is not known. */
  last_seen?: number
}

export type Event =
  | { type: 'read'; conv: Address; seq: number }
  | { type: 'receipt'; conv: Address; user: string; delivered?: number; read?: number }
  | { type: 'ready' }

export const idPattern = /^[A-Za-z0-9_.~-]{1,64}$/
export const idRule = '1 to 64 letters, digits or any of _ . ~ -'
const addressPattern = /^[ug]\/[A-Za-z0-9_.~-]{1,64}$/

export const isAddress = (text: string): boolean => addressPattern.test(text)
export const isGroup = (conv: Address): boolean => conv.startsWith('g/')
export const idOf = (conv: Address): string => conv.slice(2)
export const userAddress = (user: string): Address => `u/${user}`
export const groupAddress = (group: string): Address => `g/${group}`

export const messageTopic = (conv: Address): string => `${conv}/msg`
export const readTopic = (conv: Address): string => `${conv}/read`
export const typingTopic = (conv: Address): string => `${conv}/typing`
/** Of all groups that one is in. */
export const groupTypingFilter = 'g/+/typing'
export const presenceTopic = (peer: string): string => `${userAddress(peer)}/presence`
/** Whose presence is told on this topic. */
export const userOfPresence = (topic: string): string => topic.split('/')[1] ?? ''
export const methodTopic = (method: string): string => `rpc/${method}`

/** What a received topic carries for `me`; undefined for what the page does not know. */
export function kindOf(topic: string, me: string): 'ack' | 'event' | 'rpc' | 'message' | 'typing' | 'presence' | undefined {
  if (topic === `u/${me}/ack`) return 'ack'
  if (topic === `u/${me}/event`) return 'event'
  if (topic === `u/${me}/rpc`) return 'rpc'
  if (topic === typingTopic(userAddress(me)) || /^g\/[^/]+\/typing$/.test(topic)) return 'typing'
  if (/^u\/[^/]+\/presence$/.test(topic)) return 'presence'
  return topic === `u/${me}/msg` || /^g\/[^/]+\/msg$/.test(topic) ? 'message' : undefined
}

/** The conversation that a delivered message belongs to: that of the other side, also when I wrote it on another device. */
export function conversationOf(message: Message, me: string): Address {
  if (message.group !== undefined) return groupAddress(message.group)
  return userAddress(message.from === me ? (message.to ?? me) : message.from)
}

/** The conversation in which it was said on this topic that `from` is writing. */
export const conversationOfTyping = (topic: string, from: string): Address =>
  topic.startsWith('g/') ? topic.split('/').slice(0, 2).join('/') : userAddress(from)

/** The server's words as a sentence of the page. */
export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`

/** Short, unguessable enough, and without crypto.randomUUID, which plain http does not have. */
export function randomName(length: number): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => letters[byte % letters.length]).join('')
}
