/** The open conversation: its bar, the log with older pages on scrolling up, and the composer. Marks as read what is seen. */
import type { ChatClient } from './chat-client.js'
import { CallError } from './connection.js'
import { avatar, byId, reconcile } from './dom.js'
import { fold } from './fold.js'
import { titleOf } from './list-view.js'
import { logItems } from './message-view.js'
import { dotOf, presenceLine } from './presence.js'
import { type Address, idOf, isGroup, sentence } from './protocol.js'
import { keepPlace } from './reading-place.js'
import type { Conversation } from './store.js'
import { writingLine } from './typing.js'
import { createVoiceView } from './voice-view.js'

export interface ConversationView {
  render(client: ChatClient): void
  /** undefined closes it. */
  show(client: ChatClient, conv: Address | undefined): void
  readonly conv: Address | undefined
}

const nearPx = 80
const shownMax = 1_000
const keptMax = 100

export function createConversationView(leave: () => void): ConversationView {
  const bar = byId('conversation-bar', 'header')
  const nothing = byId('nothing-open', 'div')
  const frame = byId('log-frame', 'div')
  const log = byId('log', 'div')
  const top = byId('log-top', 'p')
  const messages = byId('messages', 'div')
  const toLatest = byId('to-latest', 'button')
  const toLatestText = byId('to-latest-text', 'span')
  const composer = byId('composer', 'form')
  const draft = byId('draft', 'textarea')
  const attach = byId('attach', 'button')
  const picker = byId('picker', 'input')
  const uploadState = byId('upload-state', 'p')
  const readOnly = byId('read-only', 'p')
  const drafts = new Map<Address, string>()

  let open: Conversation | undefined
  let client: ChatClient | undefined
  let firstUnread: number | undefined
  let isLoading = false
  let fault = ''
  /** Of the open conversation, when it was last drawn. */
  let wasKnown = false
  /** The reader is at the end and stays there as messages come in. */
  let isAtEnd = true
  /** Of the log, at its last scroll. */
  let lastTop = 0

  const distance = (): number => log.scrollHeight - log.scrollTop - log.clientHeight
  const isSeen = (): boolean => document.visibilityState === 'visible' && log.offsetParent !== null

  async function loadOlder(): Promise<void> {
    if (client === undefined || open === undefined || isLoading || open.isComplete || client.link.kind !== 'online' || !client.isListed)
      return
    const wanted = open
    isLoading = true
    keepPlace(log, messages, renderTop)
    try {
      await client.loadOlder(wanted)
      if (wanted === open) fault = ''
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      // What passes by itself is tried again with the next change.
      if (wanted === open && error.code !== 'offline' && error.code !== 'timeout') fault = sentence(error.message)
    } finally {
      isLoading = false
      if (client !== undefined) render(client)
    }
  }

  function renderBar(conversation: Conversation, { me, writers, presences }: ChatClient): void {
    const { conv } = conversation
    byId('title-avatar', 'span').replaceChildren(
      avatar(isGroup(conv) ? conv : idOf(conv), isGroup(conv) ? 'group' : 'user', dotOf(presences.of(conv))),
    )
    byId('title', 'h2').textContent = titleOf(conversation, me)
    const writing = writingLine(writers.in(conv), isGroup(conv))
    const subtitle = byId('subtitle', 'span')
    subtitle.textContent = writing || (isGroup(conv) ? `Group · ${idOf(conv)}` : presenceLine(presences.of(conv)))
    subtitle.classList.toggle('writing', writing !== '')
    byId('show-members', 'button').hidden = !isGroup(conv) || !conversation.isMember
    composer.hidden = !conversation.isMember
    readOnly.hidden = conversation.isMember
    readOnly.textContent = 'You are no longer a member of this group. What was said while you were stays here.'
  }

  function renderTop(): void {
    const isBegun = open?.isComplete === true
    top.hidden = !isLoading && fault === '' && !isBegun
    top.textContent = isLoading
      ? 'Loading…'
      : fault !== ''
        ? fault
        : open?.messages.size === 0
          ? 'No messages yet. Say hello!'
          : 'This is the beginning.'
    top.classList.toggle('fault', fault !== '' && !isLoading)
  }

  function render(current: ChatClient): void {
    client = current
    if (open === undefined) return
    renderBar(open, current)
    if (open.isKnown !== wasKnown) {
      wasKnown = open.isKnown
      fault = ''
    }
    const facts = {
      me: current.me,
      conversation: open,
      entries: fold(open.sorted, current.me),
      pending: current.store.pendingOf(open.conv),
      firstUnread,
      isOnline: current.link.kind === 'online',
      linkOf: (url: string) => current.media.of(url),
    }
    const items = logItems(facts, { retry: (pending) => current.retry(pending), discard: (pending) => current.discard(pending) })
    keepPlace(log, messages, () => {
      reconcile(messages, items)
      renderTop()
    })
    if (isAtEnd) log.scrollTop = log.scrollHeight
    settle(current, open)
  }

  /** Reads what is in sight and fetches what is missing above it. */
  function settle(current: ChatClient, conversation: Conversation): void {
    if (isAtEnd && isSeen()) {
      current.markRead(conversation)
      if (conversation.messages.size > shownMax) conversation.trim(shownMax / 2)
    }
    toLatest.hidden = isAtEnd
    toLatestText.textContent = conversation.unread > 0 ? `${conversation.unread} new` : 'Latest'
    const isShort = isSeen() && log.scrollHeight <= log.clientHeight + nearPx
    if (fault === '' && (isShort || log.scrollTop < nearPx)) void loadOlder()
  }

  function show(current: ChatClient, conv: Address | undefined): void {
    client = current
    client.typing.stops()
    voice.cancel()
    if (open !== undefined) {
      drafts.set(open.conv, draft.value)
      open.trim(keptMax)
    }
    open = conv === undefined ? undefined : current.store.ensure(conv)
    document.body.classList.toggle('has-open', open !== undefined)
    nothing.hidden = open !== undefined
    bar.hidden = open === undefined
    frame.hidden = open === undefined
    composer.hidden = true
    readOnly.hidden = true
    uploadState.hidden = true
    toLatest.hidden = true
    if (open === undefined) return
    firstUnread = open.unread > 0 ? open.readUpTo + 1 : undefined
    fault = ''
    wasKnown = open.isKnown
    isAtEnd = true
    messages.replaceChildren()
    draft.value = drafts.get(open.conv) ?? ''
    render(current)
    fitDraft()
    if (matchMedia('(pointer: fine)').matches) draft.focus()
    if (!open.isKnown) void loadOlder()
  }

  function fitDraft(): void {
    draft.style.setProperty('height', 'auto')
    draft.style.setProperty('height', `${draft.scrollHeight}px`)
    if (isAtEnd) log.scrollTop = log.scrollHeight
  }

  function submit(): void {
    const text = draft.value.trim()
    if (text === '' || open === undefined || client === undefined) return
    draft.value = ''
    isAtEnd = true
    firstUnread = undefined
    client.typing.stops()
    client.send(open.conv, text)
    fitDraft()
    draft.focus()
  }

  /** `act` uploads `what` and sends it. */
  async function uploads(what: string, act: (current: ChatClient, conv: Address) => Promise<void>): Promise<void> {
    if (open === undefined || client === undefined) return
    attach.disabled = true
    uploadState.hidden = false
    uploadState.textContent = `Uploading ${what} …`
    isAtEnd = true
    try {
      await act(client, open.conv)
      uploadState.hidden = true
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      uploadState.textContent = `${what} was not sent: ${error.message}`
    } finally {
      attach.disabled = false
    }
  }

  const voice = createVoiceView(
    (record) => void uploads('The voice message', (current, conv) => current.sendVoice(conv, record)),
    (text) => {
      uploadState.hidden = false
      uploadState.textContent = text
    },
  )

  attach.addEventListener('click', () => picker.click())
  picker.addEventListener('change', () => {
    const [file] = picker.files ?? []
    if (file !== undefined) void uploads(file.name, (current, conv) => current.sendFile(conv, file))
    picker.value = ''
  })
  // A part that scrolls must be reachable by keyboard.
  log.tabIndex = 0
  composer.addEventListener('submit', (event) => {
    event.preventDefault()
    submit()
  })
  draft.addEventListener('input', () => {
    fitDraft()
    if (client === undefined || open === undefined) return
    if (draft.value.trim() === '') client.typing.stops()
    else client.typing.writes(open.conv)
  })
  draft.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    submit()
  })
  log.addEventListener('scroll', () => {
    // The end may have moved on since this scroll: only who goes up leaves it.
    isAtEnd = distance() < nearPx || (isAtEnd && log.scrollTop >= lastTop)
    lastTop = log.scrollTop
    if (client !== undefined && open !== undefined) settle(client, open)
  })
  toLatest.addEventListener('click', () => {
    isAtEnd = true
    log.scrollTop = log.scrollHeight
  })
  byId('back', 'button').addEventListener('click', leave)
  document.addEventListener('visibilitychange', () => {
    if (client !== undefined) render(client)
  })
  // Pictures grow when they are loaded, and the log shrinks for the keyboard or an upload.
  const sizes = new ResizeObserver(() => {
    if (isAtEnd) log.scrollTop = log.scrollHeight
  })
  for (const part of [log, messages]) sizes.observe(part)

  return {
    render,
    show,
    get conv() {
      return open?.conv
    },
  }
}
