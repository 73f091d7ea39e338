/**
 * Folds the entries of a conversation's log into what is shown: edits, recalls and reactions are applied to the messages they
 * speak of, system entries become sentences. Pure; whatever is malformed is shown as an unsupported message, never thrown.
 */
import type { Message } from './protocol.js'

export type Content =
  | { kind: 'text'; text: string }
  /** `href` is undefined when the URL is none that may be opened. */
  | {
      kind: 'link'
      label: string
      detail: string
      href: string | undefined
      /** An object of this server, which needs a link. */
      url?: string
      shown: 'picture' | 'sound' | 'file'
    }
  | { kind: 'recalled' }
  /** The server has taken its content away. */
  | { kind: 'erased' }
  | { kind: 'unsupported'; type: string }

export interface Bubble {
  kind: 'bubble'
  message: Message
  content: Content
  isEdited: boolean
  /** Emoji → who. */
  reactions: Map<string, Set<string>>
  /** What it answers, when that is loaded. */
  quoted: { from: string; text: string } | undefined
}

interface Notice {
  kind: 'notice'
  message: Message
  text: string
}

export type Entry = Bubble | Notice

type Fields = Record<string, unknown>

const fieldsOf = (body: unknown): Fields => (typeof body === 'object' && body !== null ? (body as Fields) : {})
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** `messages` in order of seq. */
export function fold(messages: readonly Message[], me: string): Entry[] {
  const entries: Entry[] = []
  const bubbles = new Map<number, Bubble>()
  for (const message of messages) {
    const { seq, body } = fieldsOf(message.body)
    const target = bubbles.get(seq as number)
    if (message.type === 'recall') {
      if (target !== undefined) target.content = { kind: 'recalled' }
    } else if (message.type === 'edit') {
      if (target !== undefined) edit(target, body)
    } else if (message.type === 'reaction') {
      if (target !== undefined) react(target, message)
    } else if (message.type === 'system') {
      entries.push({ kind: 'notice', message, text: describeSystem(message, me) })
    } else {
      const bubble: Bubble = {
        kind: 'bubble',
        message,
        content: contentOf(message.type, message.body),
        isEdited: false,
        reactions: new Map(),
        quoted: quote(message.re === undefined ? undefined : bubbles.get(message.re)),
      }
      bubbles.set(message.seq, bubble)
      entries.push(bubble)
    }
  }
  return entries
}

function edit(target: Bubble, body: unknown): void {
  if (target.content.kind === 'recalled') return
  target.content = contentOf(target.message.type, body)
  target.isEdited = true
}

function react({ reactions }: Bubble, { from, body }: Message): void {
  const { emoji, on } = fieldsOf(body)
  if (typeof emoji !== 'string') return
  const users = reactions.get(emoji) ?? new Set()
  if (on === false) users.delete(from)
  else users.add(from)
  if (users.size > 0) reactions.set(emoji, users)
  else reactions.delete(emoji)
}

const quote = (target: Bubble | undefined): Bubble['quoted'] =>
  target === undefined ? undefined : { from: target.message.from, text: summarize(target.content) }

/** Only what a browser fetches as a page or file; nothing that runs, like javascript: or data:. */
export function safeHref(url: unknown): string | undefined {
  if (typeof url !== 'string' || !URL.canParse(url)) return undefined
  const { protocol, href } = new URL(url)
  return protocol === 'http:' || protocol === 'https:' ? href : undefined
}

/** An object of the server that the page comes from. */
function isOwnMedia(url: unknown): url is string {
  if (typeof url !== 'string') return false
  const origin = typeof location === 'undefined' ? '' : location.origin
  return url.startsWith('/v1/media/') || url.startsWith(`${origin}/v1/media/`)
}

function sizeOf(bytes: unknown): string {
  if (typeof bytes !== 'number') return ''
  if (bytes < 1_000) return `${bytes} B`
  return bytes < 1_000_000 ? `${Math.round(bytes / 1_000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** `1:05`. */
export function durationOf(ms: unknown): string {
  const seconds = Math.round((typeof ms === 'number' ? ms : 0) / 1_000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}

function contentOf(type: string, body: unknown): Content {
  const { url, name, size, width, height, duration_ms } = fieldsOf(body)
  const own = isOwnMedia(url) ? { url } : {}
  const link = (label: string, details: string[]): Content => ({
    kind: 'link',
    label,
    detail: details.filter((detail) => detail !== '').join(' · '),
    href: safeHref(url),
    ...own,
    shown: type === 'image' ? 'picture' : type === 'voice' ? 'sound' : 'file',
  })
  if (type === 'text' && typeof body === 'string') return { kind: 'text', text: body }
  if (type === 'image') return link('Image', [`${Number(width)} × ${Number(height)}`, sizeOf(size)])
  if (type === 'voice') return link('Voice message', [durationOf(duration_ms), sizeOf(size)])
  if (type === 'file') return link(textOf(name) || 'File', [sizeOf(size)])
  if (type === 'erased') return { kind: 'erased' }
  return { kind: 'unsupported', type }
}

/** One line of it, for lists and quotations. */
function summarize(content: Content): string {
  if (content.kind === 'text') return content.text
  if (content.kind === 'link') return content.label
  if (content.kind === 'erased') return 'Message erased'
  return content.kind === 'recalled' ? 'Message recalled' : `A message of type ${content.type}`
}

/** One line of a log entry, for the list of conversations. */
export function previewOf(message: Message, me: string): string {
  const { type, from, body } = message
  const who = from === me ? 'You' : from
  if (type === 'system') return describeSystem(message, me)
  if (type === 'recall') return `${who} recalled a message`
  if (type === 'edit') return `${who} edited a message`
  if (type === 'reaction') return `${who} reacted ${textOf(fieldsOf(body).emoji)}`
  const text = summarize(contentOf(type, body))
  return from === me ? `You: ${text}` : message.group === undefined ? text : `${from}: ${text}`
}

const namesMax = 5

function listOf(users: unknown, me: string): string {
  const all = Array.isArray(users) ? users.map((user) => (user === me ? 'you' : String(user))) : []
  const named = all.slice(0, namesMax)
  if (all.length > namesMax) return `${named.join(', ')} and ${all.length - namesMax} more`
  return named.length > 1 ? `${named.slice(0, -1).join(', ')} and ${named.at(-1)}` : (named[0] ?? 'nobody')
}

function describeUpdate(who: string, name: unknown, announcement: unknown): string {
  const said = typeof announcement === 'string' && announcement !== '' ? `: ${announcement}` : ''
  if (name !== undefined) return `${who} renamed the group to “${textOf(name)}”${said}`
  return said === '' ? `${who} changed the group` : `${who}${said}`
}

function describeSystem({ from, body }: Message, me: string): string {
  const { event, name, users, user, role, owner, announcement } = fieldsOf(body)
  const who = from === me ? 'You' : from
  const others = Array.isArray(users) ? users.filter((one) => one !== from) : []
  if (event === 'created') return `${who} created the group “${textOf(name)}”${others.length > 0 ? ` with ${listOf(others, me)}` : ''}`
  if (event === 'added') return `${who} added ${listOf(users, me)}`
  if (event === 'removed') return `${who} removed ${listOf(users, me)}`
  if (event === 'left')
    return `${who} left the group${owner === undefined ? '' : `; ${listOf([owner], me)} ${owner === me ? 'are' : 'is'} the owner now`}`
  if (event === 'role')
    return `${who} made ${listOf([user], me)} ${role === 'admin' ? 'an' : role === 'owner' ? 'the' : 'a'} ${textOf(role)}`
  if (event === 'updated') return describeUpdate(who, name, announcement)
  if (event === 'muted') return `${who} muted ${user === undefined ? 'everybody' : listOf([user], me)}`
  if (event === 'unmuted') return `${user === undefined ? 'Everybody' : listOf([user], me)} may write again`
  if (event === 'erased') return `${listOf(users, me)} is gone, and what they wrote with them`
  if (event === 'dissolved') return `${who} dissolved the group`
  return `${who} changed the group`
}
