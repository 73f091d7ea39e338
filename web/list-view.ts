/** The list of conversations, newest first, with the last entry and what is unread. */
import type { ChatClient } from './chat-client.js'
import { ageOf } from './clock.js'
import { avatar, byId, el, type Item, reconcile } from './dom.js'
import { previewOf } from './fold.js'
import { dotOf } from './presence.js'
import { type Address, idOf, isGroup } from './protocol.js'
import type { Conversation } from './store.js'
import { writingLine } from './typing.js'

export interface ListView {
  render(client: ChatClient, open: Address | undefined): void
}

export function createListView(choose: (conv: Address) => void): ListView {
  const list = byId('conversations', 'ul')
  const empty = byId('conversations-empty', 'p')
  return {
    render(client, open) {
      const { newestFirst } = client.store
      reconcile(
        list,
        newestFirst.map((conversation) => itemOf(conversation, client, conversation.conv === open, choose)),
      )
      empty.hidden = newestFirst.length > 0
      empty.textContent = client.isListed ? 'No conversations yet. Begin one with +.' : 'Loading…'
      document.title = client.store.unread > 0 ? `(${client.store.unread}) Parley` : 'Parley'
    },
  }
}

export const titleOf = (conversation: Conversation, me: string): string =>
  conversation.conv === `u/${me}` ? 'Notes to yourself' : conversation.title

function itemOf(
  conversation: Conversation,
  { me, store, writers, presences }: ChatClient,
  isOpen: boolean,
  choose: (conv: Address) => void,
): Item {
  const { conv, last, unread } = conversation
  const waiting = store.pendingOf(conv).at(-1)
  const preview = waiting === undefined ? (last === undefined ? 'No messages yet' : previewOf(last, me)) : `You: ${waiting.body}`
  const writing = writingLine(writers.in(conv), isGroup(conv))
  const dot = dotOf(presences.of(conv))
  const hasFailed = waiting?.state === 'failed'
  const title = titleOf(conversation, me)
  const age = last === undefined ? '' : ageOf(last.ts)
  return {
    key: conv,
    signature: JSON.stringify([title, preview, age, unread, isOpen, hasFailed, writing, dot]),
    build: () =>
      el(
        'li',
        {},
        el(
          'button',
          {
            type: 'button',
            class: `conversation-item${unread > 0 ? ' unread' : ''}`,
            'data-conv': conv,
            'aria-current': isOpen ? 'true' : undefined,
            onclick: () => choose(conv),
          },
          avatar(isGroup(conv) ? conv : idOf(conv), isGroup(conv) ? 'group' : 'user', dot),
          dot && el('span', { class: 'visually-hidden' }, `${dot} `),
          el('span', { class: 'title' }, title),
          el('span', { class: 'age' }, age),
          el(
            'span',
            { class: `preview${hasFailed ? ' failed' : writing === '' ? '' : ' writing'}` },
            hasFailed ? `Not sent: ${waiting.body}` : writing || preview,
          ),
          unread > 0
            ? el('span', { class: 'badge' }, unread > 999 ? '999+' : String(unread), el('span', { class: 'visually-hidden' }, ' unread'))
            : undefined,
        ),
      ),
  }
}
