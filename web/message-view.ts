/** Builds the elements of a conversation's log: day lines, system lines, bubbles, and bubbles that are still on their way. */
import { dayOf, daysAgo, fullTimeOf, timeOf } from './clock.js'
import { avatar, el, type Item, icon } from './dom.js'
import { type Bubble, type Content, type Entry, safeHref } from './fold.js'
import { isGroup } from './protocol.js'
import type { Conversation, Pending } from './store.js'

export interface PendingActions {
  retry(pending: Pending): void
  discard(pending: Pending): void
}

export interface LogFacts {
  me: string
  conversation: Conversation
  entries: readonly Entry[]
  pending: readonly Pending[]
  /** The first seq that was unread when the conversation was opened. */
  firstUnread: number | undefined
  isOnline: boolean
  /** What loads an object of this server. */
  linkOf(url: string): Promise<string>
}

const runMs = 5 * 60_000

/** The rows of the log in order. */
export function logItems(facts: LogFacts, actions: PendingActions): Item[] {
  const { me, conversation, entries, pending, firstUnread } = facts
  const items: Item[] = []
  let before: Entry | undefined
  let isMarked = firstUnread === undefined
  for (const entry of entries) {
    const { seq, ts, from } = entry.message
    const isNewDay = before === undefined || daysAgo(before.message.ts) !== daysAgo(ts)
    if (isNewDay) items.push(line('day', `day-${new Date(ts).toDateString()}`, dayOf(ts)))
    if (!isMarked && seq >= (firstUnread ?? 0) && from !== me) {
      isMarked = true
      items.push(line('unread-line', 'unread', 'New messages'))
    }
    const isRun =
      before?.kind === 'bubble' && entry.kind === 'bubble' && !isNewDay && before.message.from === from && ts - before.message.ts < runMs
    items.push(entry.kind === 'notice' ? line('notice', `m-${seq}`, entry.text) : bubbleItem(entry, facts, isRun))
    before = entry
  }
  const isRunOfMine = before?.kind === 'bubble' && before.message.from === me
  pending.forEach((one, index) => {
    items.push(
      pendingItem(one, { isRun: isRunOfMine || index > 0, isOnline: facts.isOnline, isGroup: isGroup(conversation.conv) }, actions),
    )
  })
  return items
}

const line = (kind: string, key: string, text: string): Item => ({
  key,
  signature: text,
  build: () => el('p', { class: kind }, el('span', {}, text)),
})

type Delivery = 'sent' | 'delivered' | 'read'

function deliveryOf({ message }: Bubble, { me, conversation }: LogFacts): Delivery | undefined {
  if (message.from !== me) return undefined
  if (isGroup(conversation.conv)) return 'sent'
  return message.seq <= conversation.peerRead ? 'read' : message.seq <= conversation.peerDelivered ? 'delivered' : 'sent'
}

function bubbleItem(bubble: Bubble, facts: LogFacts, isRun: boolean): Item {
  const { message, content, isEdited, quoted } = bubble
  const delivery = deliveryOf(bubble, facts)
  const reactions = [...bubble.reactions].map(([emoji, users]) => [emoji, [...users]] as const)
  return {
    key: `m-${message.seq}`,
    signature: JSON.stringify([content, isEdited, quoted, delivery, reactions, isRun]),
    build() {
      const isMine = delivery !== undefined
      const isNamed = !isMine && !isRun && message.group !== undefined
      const row = el('article', {
        class: `row${isMine ? ' mine' : ''}${isRun ? ' run' : ''}${message.group === undefined ? '' : ' in-group'}`,
        'data-seq': String(message.seq),
        'data-state': delivery ?? 'received',
        'aria-label': `${isMine ? 'You' : message.from}, ${timeOf(message.ts)}`,
      })
      if (isNamed) row.append(avatar(message.from, 'user'))
      const box = el(
        'div',
        { class: `bubble ${content.kind}` },
        isNamed ? el('span', { class: 'from' }, message.from) : undefined,
        quoted && el('blockquote', {}, el('span', { class: 'from' }, quoted.from), el('span', { class: 'quoted' }, quoted.text)),
        contentElement(content, facts),
        el(
          'span',
          { class: 'meta' },
          isEdited ? el('span', {}, 'edited') : undefined,
          el('time', { datetime: new Date(message.ts).toISOString(), title: fullTimeOf(message.ts) }, timeOf(message.ts)),
          delivery && status(delivery),
        ),
      )
      row.append(el('div', { class: 'stack' }, box, reactions.length > 0 ? reactionBar(reactions) : undefined))
      return row
    },
  }
}

const words: Record<Delivery | 'sending' | 'failed', string> = {
  sending: 'Sending',
  sent: 'Sent',
  delivered: 'Delivered',
  read: 'Read',
  failed: 'Not sent',
}

function status(state: keyof typeof words): HTMLElement {
  const symbol = state === 'delivered' ? 'read' : state
  return el('span', { class: `status ${state}`, title: words[state] }, icon(symbol), el('span', { class: 'visually-hidden' }, words[state]))
}

const reactionBar = (reactions: readonly (readonly [string, readonly string[]])[]): HTMLElement =>
  el(
    'div',
    { class: 'reactions' },
    ...reactions.map(([emoji, users]) =>
      el('span', { class: 'reaction', title: users.join(', ') }, emoji, users.length > 1 ? ` ${users.length}` : undefined),
    ),
  )

function contentElement(content: Content, facts: LogFacts): HTMLElement {
  if (content.kind === 'text') return el('p', { class: 'text', dir: 'auto' }, ...withLinks(content.text))
  if (content.kind === 'recalled') return el('p', { class: 'text quiet' }, 'This message was recalled')
  if (content.kind === 'erased') return el('p', { class: 'text quiet' }, 'This message was erased')
  if (content.kind === 'unsupported') return el('p', { class: 'text quiet' }, `This page cannot show messages of type ${content.type}`)
  const label = [el('strong', {}, content.label), el('span', { class: 'detail' }, content.detail)]
  if (content.url !== undefined) return mediaElement(content, content.url, facts)
  if (content.href === undefined)
    return el('p', { class: 'attachment' }, ...label, el('span', { class: 'detail' }, 'Its link is not safe to open'))
  return el('a', { class: 'attachment', href: content.href, target: '_blank', rel: 'noopener noreferrer' }, icon('link'), ...label)
}

/** Loaded by a link that is asked for when it is built, and again when it has expired. */
function mediaElement({ shown, label, detail }: Extract<Content, { kind: 'link' }>, url: string, { linkOf }: LogFacts): HTMLElement {
  const words = [el('strong', {}, label), el('span', { class: 'detail' }, detail)]
  const fail = (): void => box.replaceChildren(...words, el('span', { class: 'detail' }, 'It cannot be loaded'))
  const box = el('p', { class: `attachment ${shown}` }, ...(shown === 'picture' ? [] : words))
  const set = (element: HTMLElement, attribute: string): void =>
    void linkOf(url).then((link) => element.setAttribute(attribute, link), fail)
  if (shown === 'picture') {
    const picture = el('img', { alt: `${label}, ${detail}`, loading: 'lazy', onerror: fail })
    set(picture, 'src')
    box.append(picture)
  } else if (shown === 'sound') {
    const sound = el('audio', { controls: true, preload: 'none', 'aria-label': label })
    set(sound, 'src')
    box.append(sound)
  } else {
    const open = el('a', { class: 'attachment-link', download: true }, icon('link'), ...words)
    set(open, 'href')
    box.replaceChildren(open)
  }
  return box
}

/** Web addresses become links; everything else stays text. */
function withLinks(text: string): (HTMLElement | string)[] {
  return text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/).map((part, index) => {
    const href = index % 2 === 1 ? safeHref(part) : undefined
    return href === undefined ? part : el('a', { href, target: '_blank', rel: 'noopener noreferrer' }, part)
  })
}

interface PendingFacts {
  isRun: boolean
  isOnline: boolean
  isGroup: boolean
}

function pendingItem(pending: Pending, { isRun, isOnline, isGroup }: PendingFacts, { retry, discard }: PendingActions): Item {
  const { id, body, state, error } = pending
  const isWaiting = state === 'sending' && !isOnline
  return {
    key: `p-${id}`,
    signature: JSON.stringify([state, error, isWaiting, isRun]),
    build: () =>
      el(
        'article',
        { class: `row mine${isRun ? ' run' : ''}${isGroup ? ' in-group' : ''}`, 'data-state': state, 'aria-label': `You, ${words[state]}` },
        el(
          'div',
          { class: 'stack' },
          el(
            'div',
            { class: `bubble text ${state}` },
            el('p', { class: 'text', dir: 'auto' }, ...withLinks(body)),
            el('span', { class: 'meta' }, isWaiting ? el('span', {}, 'waiting for the connection') : undefined, status(state)),
          ),
          state === 'failed'
            ? el(
                'p',
                { class: 'failure', role: 'alert' },
                el('span', {}, `Not sent: ${error ?? ''}`),
                el('button', { type: 'button', onclick: () => retry(pending) }, 'Retry'),
                el('button', { type: 'button', onclick: () => discard(pending) }, 'Discard'),
              )
            : undefined,
        ),
      ),
  }
}
