/**
 * The topic table: which topics exist, who may use them for what, and how a conversation is named.
 * topics.md has a row for each line of `topicTable`; a test holds the two equal. No other file spells a topic.
 */

/** Canonical name of a conversation: `u/alice/bob` (user ids in ascending order) or `g/team`. Never seen by clients. */
export type ConversationId = string
/** A conversation as one user sees it: `u/{peer}` or `g/{group}`; the field `conv` of the protocol. */
export type Address = string

const idPattern = /^[A-Za-z0-9_.~-]{1,64}$/

/** User, group and device ids: `[A-Za-z0-9_.~-]{1,64}`. */
export const isId = (id: string): boolean => idPattern.test(id)

export const idRule = '1 to 64 characters of A-Z a-z 0-9 _ . ~ -'

/** Begins the device name of a client without id. No client id has it, so nobody can come back as such a device. */
export const unnamedDevice = '*'
export const isUnnamed = (device: string): boolean => device.startsWith(unnamedDevice)

export const directConversation = (a: string, b: string): ConversationId => (a < b ? `u/${a}/${b}` : `u/${b}/${a}`)
export const groupConversation = (group: string): ConversationId => `g/${group}`
export const isGroup = (conv: ConversationId): boolean => conv.charCodeAt(0) === 103 // 'g'
export const groupOf = (conv: ConversationId): string => conv.slice(2)

/**
 * What is derived from a conversation or a user again and again: to look it up costs half of putting a short text together, and of what
 * was looked up the hash is known. Emptied when full.
 */
class Derived<Value> {
  readonly #known = new Map<string, Value>()
  readonly #derive: (text: string) => Value

  constructor(derive: (text: string) => Value) {
    this.#derive = derive
  }

  of(text: string): Value {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const value = this.#derive(text)
    if (this.#known.size >= derivedMax) this.#known.clear()
    this.#known.set(text, value)
    return value
  }
}

const derivedMax = 50_000
/** In one piece, as no concatenation is. */
const flat = (text: string): string => Buffer.from(text, 'latin1').toString('latin1')
const knownUsers = new Derived((conv) => usersOf(conv))
const userTexts = new Derived((user) => ({ address: flat(`u/${user}`), message: flat(`u/${user}/msg`), ack: flat(`u/${user}/ack`) }))

/** The two users of a direct conversation, in canonical order (equal for a note to oneself). */
export function usersOf(conv: ConversationId): [string, string] {
  const slash = conv.indexOf('/', 2)
  return [conv.slice(2, slash), conv.slice(slash + 1)]
}

/** The other user of a direct conversation of `me`; `me` for a note to oneself. */
export function peerOf(conv: ConversationId, me: string): string {
  const [first, second] = knownUsers.of(conv)
  return first === me ? second : first
}

export const addressOf = (conv: ConversationId, me: string): Address => (isGroup(conv) ? conv : userTexts.of(peerOf(conv, me)).address)

export const userAddress = (user: string): Address => userTexts.of(user).address
export const idOfAddress = (address: Address): string => address.slice(2)

/** `u/bob` as alice sees it → `u/alice/bob`; undefined when it is not an address. */
export function conversationOf(address: string, me: string): ConversationId | undefined {
  const id = address.slice(2)
  if (!isId(id)) return undefined
  if (address.startsWith('u/')) return directConversation(me, id)
  if (address.startsWith('g/')) return groupConversation(id)
  return undefined
}

/** The topic on which a session of `user` receives the messages of `conv`. */
export const deliveryTopic = (conv: ConversationId, user: string): string => (isGroup(conv) ? `${conv}/msg` : userTexts.of(user).message)
export const ackTopic = (user: string): string => userTexts.of(user).ack
export const eventTopic = (user: string): string => `u/${user}/event`
/** On which a session of `user` hears who is writing in `conv`. */
export const typingTopic = (conv: ConversationId, user: string): string => (isGroup(conv) ? `${conv}/typing` : `u/${user}/typing`)

const typingFilter = /^g\/(\+|[A-Za-z0-9_.~-]{1,64})\/(typing|\+|#)$/
/** The group whose typing signals a filter asks for, `+` for all groups; undefined when it asks for none. */
export const typingGroupOf = (filter: string): string | undefined => (filter === 'g/#' ? '+' : typingFilter.exec(filter)?.[1])
/** On which a session that watches `user` hears whether he is online. */
export const presenceTopic = (user: string): string => `u/${user}/presence`
export const rpcReplyTopic = (user: string): string => `u/${user}/rpc`

/** Routes are what plugins own: the patterns a client publishes to. */
export type RoutePattern =
  | 'u/{peer}/msg'
  | 'g/{group}/msg'
  | 'u/{peer}/read'
  | 'g/{group}/read'
  | 'u/{peer}/typing'
  | 'g/{group}/typing'
  | 'rpc/{method}'

/** What plugins own that is heard on SUBSCRIBE only. */
export const subscriptionPatterns = ['u/{user}/presence'] as const
export type SubscriptionPattern = (typeof subscriptionPatterns)[number]

/** The subscription that a filter names, and whose it is; undefined when it names none. */
export function subscriptionOf(filter: string): { pattern: SubscriptionPattern; id: string } | undefined {
  const id = /^u\/([^/]*)\/presence$/.exec(filter)?.[1]
  return id !== undefined && isId(id) ? { pattern: subscriptionPatterns[0], id } : undefined
}

export interface TopicRow {
  topic: string
  direction: 'publish' | 'receive'
  qos: 0 | 1
  meaning: string
}

/** Every chat topic, as topics.md lists it. */
export const topicTable: readonly TopicRow[] = [
  { topic: 'u/{peer}/msg', direction: 'publish', qos: 1, meaning: 'send a message to a user' },
  { topic: 'g/{group}/msg', direction: 'publish', qos: 1, meaning: 'send a message to a group' },
  { topic: 'u/{peer}/read', direction: 'publish', qos: 1, meaning: 'I have read this conversation up to `seq`' },
  { topic: 'g/{group}/read', direction: 'publish', qos: 1, meaning: 'I have read this group up to `seq`' },
  { topic: 'u/{peer}/typing', direction: 'publish', qos: 0, meaning: 'I am writing to this user, or no longer' },
  { topic: 'g/{group}/typing', direction: 'publish', qos: 0, meaning: 'I am writing to this group, or no longer' },
  { topic: 'rpc/{method}', direction: 'publish', qos: 1, meaning: 'call a method' },
  { topic: 'u/{me}/msg', direction: 'receive', qos: 1, meaning: 'a direct message to me, or sent by another session of mine' },
  { topic: 'g/{group}/msg', direction: 'receive', qos: 1, meaning: 'a message of a group I am in, sent by another session' },
  { topic: 'u/{me}/ack', direction: 'receive', qos: 1, meaning: 'the result of what this session sent' },
  {
    topic: 'u/{me}/event',
    direction: 'receive',
    qos: 1,
    meaning: '`ready` after connect, `read` from another device of mine, `receipt` of a peer, `friend`, `block`, `profile`, `conversation`',
  },
  { topic: 'u/{me}/typing', direction: 'receive', qos: 0, meaning: 'who is writing to me' },
  { topic: 'g/{group}/typing', direction: 'receive', qos: 0, meaning: 'who is writing to a group, for sessions that subscribed to it' },
  {
    topic: 'u/{user}/presence',
    direction: 'receive',
    qos: 0,
    meaning: 'whether a user is online: now and at each change, for sessions that subscribed to it',
  },
  { topic: 'u/{me}/rpc', direction: 'receive', qos: 1, meaning: 'the reply to a call of this session' },
]

/** Where a published topic leads. `open` is an application topic; `chat` is reserved and has an owner or is unknown. */
export type Target =
  | { kind: 'route'; pattern: RoutePattern; id: string }
  | { kind: 'unknown'; why: string }
  | { kind: 'open' }
  | { kind: 'reserved' }

const routesByLeaf: Record<string, RoutePattern> = {
  'u/msg': 'u/{peer}/msg',
  'g/msg': 'g/{group}/msg',
  'u/read': 'u/{peer}/read',
  'g/read': 'g/{group}/read',
  'u/typing': 'u/{peer}/typing',
  'g/typing': 'g/{group}/typing',
}

const open: Target = { kind: 'open' }
const reserved: Target = { kind: 'reserved' }

/** Of an application topic or filter: Aedes closes the connection of a client that comes with more. */
export const topicLevelsMax = 100
const tooDeep: Target = { kind: 'unknown', why: `a topic has at most ${topicLevelsMax} levels` }

export function isTooDeep(topic: string): boolean {
  let levels = 1
  for (let at = topic.indexOf('/'); at !== -1 && levels <= topicLevelsMax; at = topic.indexOf('/', at + 1)) levels++
  return levels > topicLevelsMax
}

/** Decides by the topic alone where a PUBLISH goes. The first level `u`, `g`, `rpc` is Parley's, `$…` is nobody's, the rest is open. */
export function targetOf(topic: string): Target {
  if (topic.charCodeAt(0) === 36) return reserved // '$'
  const first = topic.indexOf('/')
  const root = first === -1 ? topic : topic.slice(0, first)
  if (root !== 'u' && root !== 'g' && root !== 'rpc') return isTooDeep(topic) ? tooDeep : open
  if (root === 'rpc') {
    const method = topic.slice(4)
    if (first !== -1 && /^[a-z_.]{1,64}$/.test(method)) return { kind: 'route', pattern: 'rpc/{method}', id: method }
    return { kind: 'unknown', why: 'a method is called on rpc/{method}' }
  }
  const second = topic.indexOf('/', first + 1)
  const pattern = second === -1 ? undefined : routesByLeaf[`${root}${topic.slice(second)}`]
  if (first === -1 || pattern === undefined) {
    return { kind: 'unknown', why: `nothing can be published on it; see topics.md for what exists under ${root}/` }
  }
  const id = topic.slice(first + 1, second)
  if (!isId(id)) return { kind: 'unknown', why: `an id is ${idRule}` }
  return { kind: 'route', pattern, id }
}

/** True for a filter that lies wholly under `u/`, `g/` or `rpc/`: it concerns chat and never reaches the open topics. */
export function isChatFilter(filter: string): boolean {
  const slash = filter.indexOf('/')
  const root = slash === -1 ? filter : filter.slice(0, slash)
  return root === 'u' || root === 'g' || root === 'rpc'
}
